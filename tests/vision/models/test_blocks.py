"""Each exchangeable block computes what its paper or a reference implementation does."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from pipeline.errors import ConfigurationError
from pipeline.vision.models import MODELS
from pipeline.vision.models.blocks.activation import ACTIVATIONS, NEVER_NEGATIVE
from pipeline.vision.models.blocks.convolution import CONVOLUTIONS, DILATION, transposed
from pipeline.vision.models.blocks.initialisation import INITIALISATIONS
from pipeline.vision.models.blocks.kit import Kit
from pipeline.vision.models.blocks.normalisation import NORMALISATIONS
from pipeline.vision.models.blocks.pooling import (
    LAST_POOLINGS,
    POOLINGS,
    SpatialPyramidPool,
    StochasticPool,
)
from pipeline.vision.models.blocks.sides import Layer, side_after


def maps(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


# Pooling

WINDOW = torch.tensor([[1.0, 3.0], [0.0, 0.0]])[None, None]
HAND_WORKED = {
    "max": 3.0,
    "average": 1.0,
    "l2": math.sqrt(10.0),
    "mixed": 2.0,
    "stochastic": (1 * 1 + 3 * 3) / 4,
    "subsampling": 1.0,
}


@pytest.mark.parametrize("name", POOLINGS)
def test_a_pooled_window_has_its_hand_worked_value(name):
    layer = POOLINGS[name](2, 2, 1).eval()
    assert layer(WINDOW).item() == pytest.approx(HAND_WORKED[name], rel=1e-6)


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooling_keeps_the_type_and_passes_a_finite_gradient_where_all_is_zero(name, dtype):
    layer = POOLINGS[name](2, 2, 4).to(dtype)
    zeros = torch.zeros(2, 4, 6, 6, dtype=dtype, requires_grad=True)
    pooled = layer(zeros)
    assert pooled.shape == (2, 4, 3, 3)
    assert pooled.dtype == dtype
    pooled.sum().backward()
    assert zeros.grad is not None
    assert zeros.grad.isfinite().all()


def test_l2_pooling_is_pytorchs():
    given_maps = maps(2, 3, 7, 7)
    expected = functional.lp_pool2d(given_maps, 2, 3, 2)
    torch.testing.assert_close(POOLINGS["l2"](3, 2, 3)(given_maps), expected)


def test_stochastic_pooling_draws_in_proportion_to_the_values():
    torch.manual_seed(0)
    layer = StochasticPool(2, 2).train()
    drawn = layer(WINDOW.expand(1, 40_000, 2, 2))
    assert set(drawn.unique().tolist()) == {1.0, 3.0}
    assert (drawn == 3.0).float().mean().item() == pytest.approx(0.75, abs=0.01)


def test_stochastic_pooling_passes_the_gradient_to_what_was_drawn():
    torch.manual_seed(0)
    values = maps(1, 2, 4, 4).requires_grad_()
    StochasticPool(2, 2).train()(values).sum().backward()
    windows = values.grad.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert torch.equal(windows.sum(dim=4), torch.ones(1, 2, 2, 2))


def test_stochastic_pooling_repeats_what_a_seed_gave():
    layer, values = StochasticPool(2, 2).train(), maps(2, 3, 8, 8)
    torch.manual_seed(3)
    first = layer(values)
    assert not torch.equal(layer(values), first)
    torch.manual_seed(3)
    assert torch.equal(layer(values), first)


def test_a_mixture_is_learned():
    layer = POOLINGS["mixed"](2, 2, 1)
    layer(WINDOW).sum().backward()
    assert layer.mixture.grad.item() == pytest.approx(0.25 * (3.0 - 1.0))  # sigmoid' (max - mean)


@pytest.mark.parametrize("side", [3, 4, 9])
def test_a_pyramid_gives_as_many_features_whatever_the_size(side):
    pooled = SpatialPyramidPool()(given_maps := maps(2, 5, side, side))
    assert pooled.shape == (2, 5 * 21)
    assert torch.equal(pooled[:, :5], given_maps.amax(dim=(2, 3)))
    if side == 4:
        assert torch.equal(pooled[:, 5 * 5 :], given_maps.flatten(1))


# Convolutions


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (5, 1, 0), (5, 2, 2)])
@pytest.mark.parametrize("before", [1, 3, 8])
def test_convolutions_can_be_exchanged(name, kernel, stride, padding, before):
    layer = CONVOLUTIONS[name](before, 8, kernel, stride=stride, padding=padding, bias=True)
    expected = functional.conv2d(
        maps(2, before, 13, 13),
        torch.ones(8, before, kernel, kernel),
        stride=stride,
        padding=padding,
    )
    assert layer(maps(2, before, 13, 13)).shape == expected.shape


def test_a_dilated_convolution_is_one_whose_kernel_has_gaps():
    torch.manual_seed(0)
    layer = CONVOLUTIONS["dilated"](2, 4, 3, stride=1, padding=1, bias=False)
    wide = torch.zeros(4, 2, 5, 5)
    wide[:, :, ::DILATION, ::DILATION] = layer.weight
    values = maps(1, 2, 9, 9)
    torch.testing.assert_close(layer(values), functional.conv2d(values, wide, padding=2))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", 8 * 16 * 9),
        ("dilated", 8 * 16 * 9),
        ("grouped", 8 * 16 * 9 // 4),
        ("depthwise_separable", 8 * 9 + 8 * 16),
        ("bottleneck", (8 * 4 + 4) + (4 * 4 * 9 + 4) + 4 * 16),
    ],
)
def test_a_convolution_has_the_weights_of_its_kind(name, expected):
    layer = CONVOLUTIONS[name](8, 16, 3, stride=1, padding=1, bias=False)
    assert sum(p.numel() for p in layer.parameters()) == expected


def test_a_transposed_convolution_doubles_the_side():
    assert transposed(4, 2)(maps(1, 4, 7, 7)).shape == (1, 2, 14, 14)


# Activations, normalisations

FORMULAS = {
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "scaled_tanh": lambda x: 1.7159 * math.tanh(2 * x / 3),
    "relu": lambda x: max(x, 0.0),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "silu": lambda x: x / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_follows_its_formula(name):
    points = [-3.0, -0.5, 0.0, 0.25, 1.0, 4.0]
    got = ACTIVATIONS[name]()(torch.tensor(points)).tolist()
    assert got == pytest.approx([FORMULAS[name](x) for x in points], rel=1e-5, abs=1e-6)
    assert (min(got) >= 0) == (name in NEVER_NEGATIVE)


def normalised(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    mean, variance = values.mean(axes, keepdims=True), values.var(axes, keepdims=True)
    return (values - mean) / np.sqrt(variance + 1e-5)


@pytest.mark.parametrize("name", NORMALISATIONS)
@pytest.mark.parametrize("of_maps", [True, False])
def test_a_normalisation_leaves_mean_0_and_variance_1_of_its_own_part(name, of_maps):
    values = maps(4, 16, 5, 5) if of_maps else maps(4, 16)
    array = values.numpy().astype(np.float64)
    rest = tuple(range(2, array.ndim))
    expected = {
        "batch": lambda: normalised(array, (0, *rest)),
        "layer": lambda: normalised(array, (1, *rest)),
        "group": lambda: normalised(
            array.reshape(4, 8, 2, *array.shape[2:]), (2, *(axis + 1 for axis in rest))
        ).reshape(array.shape),
        "none": lambda: array,
    }[name]()
    layer = NORMALISATIONS[name](16, maps=of_maps)
    np.testing.assert_allclose(layer(values).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


# Initial weights


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(16, 64, 5), nn.Linear(400, 300), nn.Linear(300, 64))


@pytest.mark.parametrize(
    ("name", "convolution", "dense"),
    [
        ("xavier", math.sqrt(2 / (16 * 25 + 64 * 25)), math.sqrt(2 / 700)),
        ("he", math.sqrt(2 / (16 * 25)), math.sqrt(2 / 400)),
        ("he_fan_out", math.sqrt(2 / (64 * 25)), 1 / math.sqrt(3 * 400)),
        ("lecun", 2.4 / (16 * 25) / math.sqrt(3), 2.4 / 400 / math.sqrt(3)),
        ("nielsen", math.sqrt(4 / (64 * 25)), math.sqrt(1 / 300)),
        ("pytorch", 1 / math.sqrt(3 * 16 * 25), 1 / math.sqrt(3 * 400)),
    ],
)
def test_weights_begin_with_the_published_spread(name, convolution, dense):
    net = layers()
    INITIALISATIONS[name](net)
    assert net[0].weight.std().item() == pytest.approx(convolution, rel=0.02)
    assert net[1].weight.std().item() == pytest.approx(dense, rel=0.02)


def test_orthogonal_weights_are_orthonormal():
    net = layers()
    INITIALISATIONS["orthogonal"](net)
    rows = net[0].weight.flatten(1)
    torch.testing.assert_close(rows @ rows.t(), torch.eye(64), rtol=0, atol=1e-5)


def test_nielsens_biases_are_drawn_and_his_last_layer_begins_with_zeros():
    net = layers()
    INITIALISATIONS["nielsen"](net)
    assert net[1].bias.std().item() == pytest.approx(1.0, rel=0.15)
    assert not net[2].weight.any()
    assert not net[2].bias.any()


def test_every_initialisation_has_its_spread_tested():
    tested = {"xavier", "he", "he_fan_out", "lecun", "nielsen", "pytorch", "orthogonal"}
    assert set(INITIALISATIONS) == tested


# Blocks together


@given(
    kernel=st.integers(1, 9),
    stride=st.integers(1, 4),
    padding=st.integers(0, 4),
    side=st.integers(1, 40),
)
@settings(deadline=None, max_examples=60)
def test_sides_are_worked_out_as_pytorch_does(kernel, stride, padding, side):
    found = Layer("x", kernel, stride, padding).side(side)
    if side + 2 * padding < kernel:
        assert found is None
    else:
        maps = torch.zeros(1, 1, side, side, device="meta")
        layer = nn.Conv2d(1, 1, kernel, stride, padding, device="meta")
        assert found == layer(maps).shape[3]


@pytest.mark.parametrize("pooling", [*POOLINGS, "none"])
@pytest.mark.parametrize("last", LAST_POOLINGS)
def test_a_kit_knows_the_size_of_what_it_builds(pooling, last):
    kit = Kit(pooling=pooling, last_pooling=last)
    for image_size in (12, 17, 28):
        side = side_after("x", image_size, kit.stage_sides(5, pool=2))
        net = nn.Sequential(*kit.stage(1, 4, 5, pool=2))
        assert net(maps(2, 1, image_size, image_size)).shape == (2, 4, side, side)
        features, count = kit.features(4, side)
        assert nn.Sequential(net, features)(maps(2, 1, image_size, image_size)).shape == (2, count)


BLOCKS = {
    "convolution": list(CONVOLUTIONS),
    "activation": list(ACTIVATIONS),
    "normalisation": list(NORMALISATIONS),
    "pooling": [*POOLINGS, "none"],
    "last_pooling": list(LAST_POOLINGS),
    "initialisation": list(INITIALISATIONS),
}


@pytest.mark.parametrize("key", BLOCKS)
@pytest.mark.parametrize("model", ["nielsen", "lenet5", "small_cnn", "fast_resnet"])
def test_every_block_can_be_chosen_for_an_own_network(make, model, key):
    if key not in inspect.signature(MODELS[model]).parameters:
        assert key == "last_pooling"  # some networks have one pooling at the end
        return
    for name in BLOCKS[key]:
        never_negative = {"activation": "relu"} if name == "stochastic" else {}
        with torch.device("meta"):
            network = make(model, image_size=28, architecture={key: name, **never_negative})
            network(torch.rand(2, 1, 28, 28)).sum().backward()
        silent = [name for name, p in network.named_parameters() if p.grad is None]
        assert silent == [], name


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_blocks_of_small_cnn_begin_as_the_identity_where_a_scale_can_be_zero(make, name):
    network = make("small_cnn", image_size=16, architecture={"normalisation": name}).eval()
    block, features = network.net.stages[1], maps(2, 32, 4, 4)
    assert torch.equal(block(features), features) == (name != "none")


def test_an_unknown_block_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigurationError, match=r"architecture.pooling is 'avg'.*average"):
        Kit(pooling="avg")
