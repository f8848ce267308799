"""Every own network: sizes, costs and fields against the network itself, run on numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.errors import ConfigurationError
from pipeline.inspection.layers import UNUSED, Anatomy, anatomy
from pipeline.inspection.specimen import Subject, blank, usual_subjects
from pipeline.vision.models import MODELS, Classifier, build

pytestmark = pytest.mark.zoo

QUICK = ("small_cnn", "nielsen", "lenet1", "lenet4", "lenet5", "mlp")
"""Whose fields are compared in every run of the tests; all others' in the long one."""
FRONTS: dict[str, dict[str, Any]] = {
    "spatial_transformer": {"spatial_transformer": True},
    "low_pass": {"low_pass": 0.2},
    "high_pass": {"high_pass": 0.1},
    "fixed_kernels": {"fixed_kernels": ["sobel"]},
}
_NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)


def looked_at(model: str, **architecture: Any) -> tuple[Subject, Anatomy, Classifier]:
    for usual in usual_subjects(model, image_size=None, channels=None, num_classes=None):
        subject = replace(usual, architecture=architecture)
        try:
            net = blank(subject)
        except ConfigurationError:
            continue
        found = anatomy(net, channels=subject.channels, image_size=subject.image_size)
        return subject, found, net
    raise AssertionError(f"{model} takes no usual size of image")


def on_numbers(subject: Subject) -> Classifier:
    torch.manual_seed(0)
    return build(
        subject.model,
        channels=subject.channels,
        num_classes=subject.num_classes,
        image_size=subject.image_size,
        architecture=subject.architecture,
        mean=[0.5] * subject.channels,
        std=[0.25] * subject.channels,
    ).eval()


@contextmanager
def results_of(net: Classifier) -> Iterator[dict[str, list[Tensor]]]:
    """What the modules without children give, by name, while ``net`` runs."""
    results: dict[str, list[Tensor]] = {}
    hooks = []
    for name, module in net.named_modules():
        if next(module.children(), None) is None:

            def keep(_: nn.Module, __: object, result: Tensor, name: str = name) -> None:
                # A copy: what follows may be written into the same memory.
                results.setdefault(name.removeprefix("net."), []).append(result.clone())

            hooks.append(module.register_forward_hook(keep))
    try:
        yield results
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("model", list(MODELS))
def test_sizes_parameters_and_costs_are_the_networks(model):
    subject, found, net = looked_at(model)
    assert found.parameters == net.num_parameters

    image = torch.empty(1, subject.channels, *[subject.image_size] * 2, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(image)
    assert 2 * found.multiply_adds == counter.get_total_flops()

    actual = on_numbers(subject)
    assert actual.num_parameters == found.parameters
    with results_of(actual) as results, torch.no_grad():
        logits = actual(torch.rand(1, subject.channels, *[subject.image_size] * 2))
    used = [layer for layer in found.layers if layer.name != UNUSED]
    assert tuple(logits.shape[1:]) == (subject.num_classes,)
    compared = 0
    for layer in used:
        if len(results.get(layer.name, ())) == 1:
            assert tuple(results[layer.name][0].shape[1:]) == layer.shape, layer.name
            compared += 1
    assert compared >= min(len(used), 2)


@pytest.mark.parametrize(
    "model",
    [model if model in QUICK else pytest.param(model, marks=pytest.mark.slow) for model in MODELS],
)
def test_fields_are_what_a_pixel_can_change(model):
    """A pixel that is not a number makes all that depends on it not a number."""
    subject, found, net = looked_at(model)
    compared = compare_fields(subject, found)
    assert compared or not any(isinstance(module, nn.Conv2d) for module in net.modules())


@pytest.mark.parametrize("front", FRONTS)
def test_fields_behind_a_front_are_what_a_pixel_can_change(front):
    subject, found, _ = looked_at("small_cnn", **FRONTS[front])
    assert all(layer.reach.known for layer in found.layers)
    assert compare_fields(subject, found) >= 4


@pytest.mark.parametrize("front", FRONTS)
def test_a_front_leaves_the_layers_behind_it_as_they_are(front):
    _, alone, _ = looked_at("small_cnn")
    _, found, _ = looked_at("small_cnn", **FRONTS[front])
    behind = [layer for layer in found.layers[1:] if not layer.name.startswith("front")]
    described = [(layer.name, layer.kind, layer.then) for layer in behind]
    assert described == [(layer.name, layer.kind, layer.then) for layer in alone.layers[1:]]


def compare_fields(subject: Subject, found: Anatomy) -> int:
    """How many layers of maps were compared with what a pixel that is not a number changes."""
    net = on_numbers(subject)
    for name, module in list(net.named_modules()):
        if isinstance(module, _NORMS):  # their statistics are no part of a field
            parent, _, last = name.rpartition(".")
            setattr(net.get_submodule(parent), last, nn.Identity())
    side = subject.image_size
    images = torch.rand(1, subject.channels, side, side).repeat(side, 1, 1, 1)
    images[range(side), :, range(side)] = float("nan")  # image i without its row i
    with results_of(net) as results, torch.no_grad():
        net(images)
    compared = 0
    for layer in found.layers:
        (maps,) = (
            results.get(layer.name, [None]) if len(results.get(layer.name, ())) < 2 else [None]
        )
        if maps is None or maps.ndim != 4 or not layer.reach.known or layer.kind == "Identity":
            continue
        middle = maps[:, :, (maps.shape[2] - 1) // 2]
        rows = middle.isnan().flatten(1).any(1).nonzero().flatten().tolist()
        expected = max(layer.reach.top, 0), min(layer.reach.bottom, side - 1)
        assert (rows[0], rows[-1]) == expected, layer.name
        compared += 1
    return compared
