"""Networks are looked at without the time that their weights take."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.vision.models.blocks.initialisation import INITIALISATIONS
from pipeline.vision.models.undrawn import undrawn


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 9, 3))


@pytest.mark.parametrize("name", INITIALISATIONS)
def test_weights_are_not_drawn_and_nothing_moves_in_the_generator(name):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with undrawn():
        net = layers()
        INITIALISATIONS[name](net)
    assert torch.get_rng_state().equal(before)
    assert not any(layer.weight.any() for layer in (net[0], net[3]))
    assert net.eval()(torch.ones(1, 1, 5, 5)).shape == (1, 3)


def test_where_weights_are_drawn_again_afterwards():
    with undrawn():
        pass
    assert layers()[0].weight.any()
