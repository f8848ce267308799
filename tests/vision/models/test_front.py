"""What stands before a network: where it looks, which frequencies and which kernels it sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from pipeline.vision.models.blocks.fourier import FourierFilter
from pipeline.vision.models.blocks.kernels import KERNELS, FixedKernels
from pipeline.vision.models.blocks.spatial_transformer import SpatialTransformer


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def test_a_spatial_transformer_begins_as_the_identity_whatever_it_sees():
    torch.manual_seed(0)
    for channels, height, width in ((1, 28, 28), (3, 17, 23)):
        seen = images(4, channels, height, width) * 5 - 2
        moved = SpatialTransformer(channels)(seen)
        torch.testing.assert_close(moved, seen, rtol=1e-4, atol=1e-4)


def test_a_spatial_transformer_moves_and_turns_as_its_matrix_says():
    layer = SpatialTransformer(1)
    seen = images(1, 1, 8, 8)
    with torch.no_grad():
        # Coordinates run from -1 to 1 over eight pixels: a quarter is one pixel.
        layer.theta.bias.copy_(torch.tensor([1.0, 0, 0.25, 0, 1, 0]))
        torch.testing.assert_close(layer(seen)[..., :7], seen[..., 1:], rtol=1e-4, atol=1e-5)
        assert layer(seen)[..., 7].abs().max() < 1e-5
        layer.theta.bias.copy_(torch.tensor([-1.0, 0, 0, 0, -1, 0]))
        torch.testing.assert_close(layer(seen), seen.flip((2, 3)), rtol=1e-4, atol=1e-5)


def test_a_spatial_transformer_learns_where_to_look(make):
    torch.manual_seed(0)
    classifier = make("mlp", architecture={"spatial_transformer": True})
    nn.functional.cross_entropy(classifier(images(4, 1, 28, 28)), torch.arange(4) % 3).backward()
    transformer = classifier.front[0]
    assert transformer.theta.bias.grad.abs().sum() > 0
    assert transformer.theta.weight.grad.abs().sum() > 0


def wave(cycles: float) -> torch.Tensor:
    """A wave of so many cycles a pixel, along the columns."""
    line = torch.cos(2 * torch.pi * cycles * torch.arange(32.0))
    return line.expand(1, 1, 32, 32)


@pytest.mark.parametrize(("cycles", "low"), [(1 / 32, True), (0.25, True), (9 / 32, False)])
def test_a_filter_passes_the_frequencies_of_its_side_alone(cycles, low):
    seen = wave(cycles)
    passed = FourierFilter(cutoff=0.25, high_pass=False)(seen)
    stopped = FourierFilter(cutoff=0.25, high_pass=True)(seen)
    torch.testing.assert_close(passed, seen if low else torch.zeros_like(seen), rtol=0, atol=1e-5)
    torch.testing.assert_close(stopped, seen - passed, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (1, 1, 15, 22)])
def test_a_filter_is_numpys(shape):
    seen = images(*shape).numpy()
    radius = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, shape[2:]), indexing="ij"))
    expected = np.fft.ifft2(np.fft.fft2(seen) * (radius > 0.13)).real
    got = FourierFilter(cutoff=0.13, high_pass=True)(torch.from_numpy(seen)).numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    assert abs(got.mean()) < 1e-6


@pytest.mark.parametrize("name", KERNELS)
def test_fixed_kernels_give_what_scipy_gives(name):
    seen = images(2, 3, 9, 11)
    layer = FixedKernels([name])
    got = layer(seen).numpy()
    kernels = [np.array(kernel) for kernel in KERNELS[name]]
    for n, channel in np.ndindex(2, 3):
        for i, kernel in enumerate(kernels):
            expected = ndimage.correlate(seen[n, channel].numpy(), kernel, mode="nearest")
            np.testing.assert_allclose(
                got[n, channel * len(kernels) + i], expected, rtol=0, atol=1e-5
            )
    assert not list(layer.parameters())


def test_sobel_measures_the_slope_and_the_others_keep_an_even_area():
    ramp = (torch.arange(6.0) * 0.1).expand(1, 1, 6, 6)
    right, down = FixedKernels(["sobel"])(ramp)[0, :, 2, 2].tolist()
    assert (right, down) == pytest.approx((0.1, 0.0), abs=1e-6)
    even = torch.full((1, 1, 5, 5), 0.7)
    for name in ("identity", "gauss", "sharpen"):
        torch.testing.assert_close(FixedKernels([name])(even), even)


def test_the_names_of_a_networks_weights_do_not_depend_on_what_stands_before_it(make):
    plain = make("mlp").state_dict()
    fronted = make("mlp", architecture={"spatial_transformer": True}).state_dict()
    assert set(plain) < set(fronted)
    assert {name.partition(".")[0] for name in set(fronted) - set(plain)} == {"front"}
    filtered = make("mlp", architecture={"low_pass": 0.2}).state_dict()
    assert set(filtered) == set(plain)
