"""The zoo: every own network is trained, written and read again by the stages' own code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from pipeline.data.pack import Packed
from pipeline.training import train as stage
from pipeline.training.task import Task, build_network
from pipeline.vision.card import load_classifier
from pipeline.vision.inference import predict_logits
from pipeline.vision.models import MODELS, Classifier

pytestmark = pytest.mark.zoo

CORE = ("small_cnn", "nielsen", "lenet5", "capsnet")
"""One of each kind; the others are trained by `make zoo` and `make test`."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class NoRun:
    def finish(self, weights_sha256: str) -> None:
        """Without MLflow nobody is told."""


@pytest.fixture
def written(monkeypatch) -> list[Classifier]:
    """The networks that trainings have written, as they were; and none of them has a run."""
    networks: list[Classifier] = []
    save_model = stage.save_model

    def keep(folder: Path, classifier: Classifier, *rest: Any, **more: Any) -> None:
        networks.append(classifier)
        save_model(folder, classifier, *rest, **more)

    @contextlib.contextmanager
    def mirror(*_: object, **__: object) -> Iterator[NoRun]:
        yield NoRun()

    monkeypatch.setattr(stage, "save_model", keep)
    monkeypatch.setattr("pipeline.tracking.mirror", mirror)
    return networks


def logits_of(network: Classifier, packed: Packed) -> NDArray[np.float32]:
    rows = packed.rows("val")
    return predict_logits(network, packed.images, image_size=32, device=DEVICE, rows=rows)


@pytest.mark.parametrize(
    "model",
    [model if model in CORE else pytest.param(model, marks=pytest.mark.slow) for model in MODELS],
)
def test_a_network_learns_is_written_and_answers_the_same_when_read_again(
    workspace, write_params, make_task, written, model
):
    settings = {"model": model, "architecture": {}, "device": DEVICE, "epochs": 1, "lr": 0.01}
    stage.train(workspace, write_params(**settings), "tiny")

    history = pd.read_csv(workspace.model("tiny") / "history.csv")
    assert torch.tensor(history.to_numpy()).isfinite().all()
    (trained,) = written
    task: Task = make_task(**settings)
    before, after = build_network(task).state_dict(), trained.state_dict()
    moved = [name for name, tensor in after.items() if not torch.equal(tensor.cpu(), before[name])]
    assert moved
    assert all(tensor.isfinite().all() for tensor in after.values())

    read, card = load_classifier(workspace.model("tiny"), DEVICE)
    assert card.model == model
    packed = Packed.load(workspace.packed)
    np.testing.assert_array_equal(logits_of(read, packed), logits_of(trained.eval(), packed))
