"""What a network looks for: kernels, feature maps, spectra, and images drawn to excite a unit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from torch import Tensor, nn

from pipeline.evaluation.explain import CannotExplain
from pipeline.evaluation.explain.activation_maximisation import Objective, maximise
from pipeline.evaluation.explain.layers import feature_layers, feature_maps, first_kernels
from pipeline.evaluation.explain.spectrum import spectrum
from pipeline.vision.models import build
from tests.evaluation.explain.networks import (
    SMALL_SWIN,
    ChannelsLast,
    Dense,
    Inverted,
    Plain,
    Residual,
    Reused,
    of_library,
    trained,
)
from tests.evaluation.explain.pasted import SIDE


def test_layers_are_named_in_the_order_in_which_they_run():
    layers = feature_layers(trained(Inverted), torch.rand(1, 2, 16, 16))
    assert list(layers)[:4] == ["first", "norm", "rectify", "pool"]
    assert layers["second"] == (8, 8, 8)
    assert "unused" not in layers
    assert "hidden" not in layers


def test_a_block_that_adds_in_place_is_a_layer_of_its_own():
    """torchvision's blocks add to the tensor of their last norm: same object, other values."""
    network = build(
        "torchvision:resnet18",
        channels=3,
        num_classes=2,
        image_size=64,
        architecture={},
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
    )
    image = torch.rand(1, 3, 64, 64)
    layers = feature_layers(network, image)
    assert list(layers)[-1] == "net.layer4"
    assert "net.relu" in layers
    assert not any(name.startswith("net.layer") and name.endswith("relu") for name in layers)
    found = feature_maps(network, image, ["net.layer4", "net.layer4.1.bn2"])
    assert (found["net.layer4"] >= 0).all()
    assert (found["net.layer4.1.bn2"] < 0).any()


def test_feature_maps_are_what_the_layer_gave_before_others_changed_it():
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True))
    images = torch.rand(3, 2, 8, 8)
    found = feature_maps(network, images, ["0", "1"])
    torch.testing.assert_close(found["0"], network[0](images).detach())
    torch.testing.assert_close(found["1"], found["0"].relu())


def test_a_module_that_runs_twice_is_no_layer():
    layers = feature_layers(trained(Reused), torch.rand(1, 2, 16, 16))
    assert set(layers) == {"first", "norm", "pool", "second"}


def test_maps_that_lie_channels_last_are_turned():
    network, images = ChannelsLast(), torch.rand(3, 2, 16, 16)
    layers = feature_layers(network, images[:1])
    assert layers == {
        "first": (16, 16, 16),
        "norm": (16, 16, 16),
        "mixed": (16, 16, 16),
        "merged": (10, 8, 8),
    }
    found = feature_maps(network, images, layers)
    first = network.first(images).detach()
    assert found["first"].equal(first)
    normed = network.norm(first.movedim(1, 3))
    assert found["norm"].equal(normed.movedim(3, 1))
    assert found["mixed"].equal(network.mixed(normed).movedim(3, 1))
    assert found["merged"].shape == (3, 10, 8, 8)


@pytest.mark.parametrize(
    ("model", "architecture", "layer", "shape"),
    [
        ("timm:swin_tiny_patch4_window7_224", SMALL_SWIN, "net.norm", (64, 2, 2)),
        ("timm:vit_tiny_patch16_224", {"depth": 1}, "net.patch_embed.proj", (192, 4, 4)),
        ("timm:convnext_atto", {}, "net.norm_pre", (320, 2, 2)),
        ("torchvision:squeezenet1_1", {}, "net.classifier.2", (2, 3, 3)),
    ],
)
def test_the_last_layer_of_a_librarys_network_has_its_units_as_channels(
    model, architecture, layer, shape
):
    network = of_library(model, architecture)
    assert list(feature_layers(network, torch.rand(1, 3, 64, 64)).items())[-1] == (layer, shape)


def test_a_unit_of_maps_that_lie_channels_last_is_drawn():
    objective = Objective([9], "merged")
    settings = {"channels": 2, "image_size": 16}
    torch.manual_seed(0)
    network = ChannelsLast()
    begun = maximise(network, objective, steps=0, **settings)
    drawn = maximise(network, objective, steps=20, **settings)
    assert excitement(network, drawn, objective) > excitement(network, begun, objective)


def test_the_first_kernels_are_those_that_see_the_image():
    network = trained(Inverted)
    assert first_kernels(network, torch.rand(1, 2, 16, 16)).equal(network.first.weight)
    with pytest.raises(CannotExplain, match="no convolution"):
        first_kernels(Dense(), torch.rand(1, 2, 16, 16))


def test_the_product_of_spectra_is_that_of_the_circular_convolution():
    """Beside SciPy's sum over the pixels, with the image going on at its other edge."""
    rng = np.random.default_rng(0)
    image, kernel = rng.normal(size=(12, 12)), rng.normal(size=(3, 5))
    convolved = torch.tensor(convolve(image, kernel, mode="wrap"))
    product = spectrum(torch.tensor(image)) * spectrum(torch.tensor(kernel), 12)
    torch.testing.assert_close(product, spectrum(convolved))
    # With phases too. SciPy takes the kernel's middle as its origin.
    phases = torch.fft.fft2(torch.tensor(image)) * torch.fft.fft2(torch.tensor(kernel), s=(12, 12))
    found = torch.fft.ifft2(phases).real.roll((-1, -2), dims=(0, 1))
    torch.testing.assert_close(found, convolved)


def test_the_spectrum_of_a_wave_is_two_points_and_that_of_a_constant_the_middle():
    places = torch.arange(16)
    wave = torch.cos(2 * torch.pi * 3 * places / 16).expand(16, 16)  # 3 times across
    found = spectrum(wave)
    expected = torch.zeros(16, 16)
    expected[8, [8 - 3, 8 + 3]] = 128.0
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert spectrum(torch.full((4, 4), 0.5)).argmax() == 2 * 4 + 2
    assert spectrum(torch.ones(3, 3), 24).shape == (24, 24)
    with pytest.raises(ValueError, match="cannot hold"):
        spectrum(torch.ones(9, 9), 8)


def excitement(network: nn.Module, images: Tensor, objective: Objective) -> Tensor:
    if objective.layer is None:
        with torch.no_grad():
            entries = network(images)
    else:
        entries = feature_maps(network, images, [objective.layer])[objective.layer].mean((2, 3))
    return entries[torch.arange(len(images)), torch.tensor(objective.units)].cpu()


@pytest.mark.parametrize("layer", [None, "net.stages"])
def test_a_drawn_image_excites_its_unit_more_than_any_photograph(learned, layer):
    objective = Objective([0, 1], layer)
    drawn = maximise(learned.network, objective, channels=1, image_size=SIDE, steps=40)
    assert drawn.shape == (2, 1, SIDE, SIDE)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    best = excitement(learned.network, drawn, objective)
    for unit in (0, 1):
        photographs = learned.test.images
        others = excitement(
            learned.network, photographs, Objective([unit] * len(photographs), layer)
        )
        assert best[unit] > others.max()


def test_a_drawing_follows_from_its_seed_and_unit_alone():
    network = trained(Plain)
    settings = {"channels": 2, "image_size": 16, "steps": 4}
    both = maximise(network, Objective([5, 2], "second"), seed=3, **settings)
    alone = maximise(network, Objective([2], "second"), seed=3, **settings)
    torch.testing.assert_close(both[1:], alone)
    other = maximise(network, Objective([2], "second"), seed=4, **settings)
    assert not torch.allclose(alone, other)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_colours_of_a_drawing_begin_as_in_photographs():
    """Red, green and blue go together: that is what decorrelating them means."""

    class Unmoved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

    begun = maximise(Unmoved(), Objective(range(16)), channels=3, image_size=32, steps=0)
    colours = (begun - 0.5).transpose(0, 1).flatten(1)
    assert torch.corrcoef(colours)[0, 1] > 0.5


def test_a_residual_block_without_modules_for_its_sum_has_its_branches_as_layers():
    assert set(feature_layers(Residual(), torch.rand(1, 2, 16, 16))) == {"stem", "branch"}
