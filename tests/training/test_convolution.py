"""Convolutions as products of matrices compute what convolutions compute."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.training import convolution
from pipeline.training.convolution import (
    MIN_CHANNELS,
    PRODUCT_GRADIENT_PIXELS,
    PRODUCT_PIXELS,
    speed_up_convolutions,
)

WAYS = (convolution._Product, convolution._ProductGradient)


@pytest.mark.parametrize("way", WAYS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_every_geometry_has_the_result_and_gradients_of_a_convolution(way, data):
    draw = data.draw
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    side = draw(st.tuples(st.integers(4, 7), st.integers(4, 7)))
    torch.manual_seed(0)
    images = torch.randn(2, 3, *side, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, *kernel, dtype=torch.float64, requires_grad=True)
    expected = nn.functional.conv2d(images, weight, None, stride, padding)
    found = way.apply(images, weight, stride, padding)
    torch.testing.assert_close(found, expected)
    grad = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, (images, weight), grad),
        torch.autograd.grad(expected, (images, weight), grad),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_frozen_layer_gets_no_gradient():
    images, weight = torch.randn(2, 3, 5, 5), torch.randn(4, 3, 3, 3)
    for way in WAYS:
        for wanted in (images, weight):
            leaf = wanted.clone().requires_grad_()
            inputs = (leaf, weight) if wanted is images else (images, leaf)
            way.apply(*inputs, (1, 1), (1, 1)).sum().backward()
            assert leaf.grad is not None


def trained_step(layer: nn.Module, images: torch.Tensor):
    leaf = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(leaf)
    torch.manual_seed(1)
    found.backward(torch.randn_like(found))
    return found.float(), leaf.grad, layer.weight.grad


@pytest.mark.parametrize("side", [2, 4, 7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_layer_in_bfloat16_is_as_near_to_float32_as_before(side, stride):
    torch.manual_seed(0)
    layer = nn.Conv2d(MIN_CHANNELS, 64, 3, stride, padding=1, bias=False)
    layer = layer.to(memory_format=torch.channels_last)
    fast = copy.deepcopy(layer)
    speed_up_convolutions(fast)
    images = torch.randn(8, MIN_CHANNELS, side, side).to(memory_format=torch.channels_last)
    leaf = images.clone().requires_grad_()
    exact = layer(leaf)
    torch.manual_seed(1)
    exact.backward(torch.randn_like(exact, dtype=torch.bfloat16).float())
    truth = (exact, leaf.grad, layer.weight.grad.clone())
    layer.weight.grad = None
    for name, ours, before, true in zip(
        ("result", "images", "weight"),
        trained_step(fast, images),
        trained_step(layer, images),
        truth,
        strict=True,
    ):
        assert (ours - true).norm() <= 1.3 * (before - true).norm(), name


@pytest.mark.parametrize(
    ("side", "kind"),
    [
        (int(PRODUCT_PIXELS**0.5), "_ProductBackward"),
        (int(PRODUCT_GRADIENT_PIXELS**0.5), "_ProductGradientBackward"),
        (int(PRODUCT_GRADIENT_PIXELS**0.5) + 1, "ConvolutionBackward0"),
    ],
)
def test_the_size_of_the_result_decides(side, kind):
    layer = nn.Sequential(nn.Conv2d(MIN_CHANNELS, 8, 1, bias=False))
    speed_up_convolutions(layer)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(torch.randn(1, MIN_CHANNELS, side, side))
    assert type(found.grad_fn).__name__ == kind


def test_in_float32_and_without_gradients_nothing_changes():
    torch.manual_seed(0)
    layer = nn.Conv2d(MIN_CHANNELS, 8, 3, padding=1, bias=False)
    fast = copy.deepcopy(layer)
    speed_up_convolutions(fast)
    images = torch.randn(2, MIN_CHANNELS, 4, 4)
    assert torch.equal(fast(images), layer(images))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(images), layer(images))
    assert fast.state_dict().keys() == layer.state_dict().keys()


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 2, "bias": False},
        {"dilation": 2, "bias": False},
        {"padding": "same", "bias": False},
        {"padding": 1, "padding_mode": "circular", "bias": False},
        {"bias": True},
    ],
)
def test_layers_of_another_kind_stay_as_they_are(options):
    layer = nn.Conv2d(MIN_CHANNELS, MIN_CHANNELS, 3, **options)
    speed_up_convolutions(layer)
    assert type(layer) is nn.Conv2d
