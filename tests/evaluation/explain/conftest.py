"""A network that has learned images whose reason is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

from pipeline.vision.models import Classifier
from tests.evaluation.explain.pasted import Pasted, accuracy, fit, make_network, make_pasted


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Learned:
    network: Classifier
    train: Pasted
    test: Pasted
    """Images that it has not seen."""


@pytest.fixture(scope="session")
def learned() -> Learned:
    """Not to be changed."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train, test = make_pasted(1024, seed=1, device=device), make_pasted(24, seed=2, device=device)
    network = make_network().to(device)
    fit(network, train, steps=120)
    assert accuracy(network, test) == 1.0
    return Learned(network, train, test)
