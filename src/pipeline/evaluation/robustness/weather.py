"""Corruptions that weather makes: snow, frost, fog and brightness.

The original lays photographs of frost over the image; here frost grows from noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.evaluation.robustness.blur import streak
from pipeline.evaluation.robustness.corruption import Corruption, Randomness, pixels
from pipeline.vision.image_ops import per_image, warp

_OCTAVES = 7
NUMBERS = sum((2**octave + 1) ** 2 for octave in range(_OCTAVES))
"""Random numbers that `plasma` takes for an image."""


def snow(
    images: Tensor,
    randomness: Randomness,
    mean: float,
    sigma: float,
    size: float,
    threshold: float,
    radius: float,
    smear: float,
    kept: float,
) -> Tensor:
    """Flakes fall from the upper left or right, and the whole image turns paler."""
    flakes = mean + sigma * randomness.normal(1, *images.shape[2:])
    scaling = torch.diag(torch.tensor([1.0 / size, 1.0 / size, 1.0], device=images.device))
    flakes = warp(flakes, scaling.expand(len(images), 3, 3))
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp_(0.0, 1.0)
    angle = (randomness.uniform(1)[:, 0] * 90.0 + 45.0) * (math.pi / 180.0)
    flakes = streak(flakes, angle, pixels(radius, images), pixels(smear, images))
    pale = torch.maximum(images, images.mean(dim=1, keepdim=True) * 1.5 + 0.5)
    return torch.lerp(pale, images, kept) + flakes + flakes.flip((2, 3))


def frost(images: Tensor, randomness: Randomness, kept: float, strength: float) -> Tensor:
    """Ice on the lens: crystals along the ridges of a noise, denser towards one side."""
    fine, coarse = randomness.uniform(2, NUMBERS).unbind(dim=1)
    ridges = 1.0 - (2.0 * plasma(fine, images.shape[2:], 1.6) - 1.0).abs()
    side = plasma(coarse, images.shape[2:], 3.0)
    ice = 0.15 + 0.85 * ridges**4 * (0.4 + 0.6 * side) + 0.3 * side
    return kept * images + strength * ice


def fog(images: Tensor, randomness: Randomness, amount: float, decay: float) -> Tensor:
    """Clouds of light, whose small parts are weaker by ``decay`` at each halving."""
    brightest = per_image(images.flatten(1).amax(dim=1))
    clouds = plasma(randomness.uniform(NUMBERS), images.shape[2:], decay)
    return (images + amount * clouds) * (brightest / (brightest + amount))


def brightness(images: Tensor, randomness: Randomness, added: float) -> Tensor:  # noqa: ARG001
    """The value of HSV, which is the largest channel, is raised; hue and saturation stay."""
    value = images.amax(dim=1, keepdim=True)
    raised = (value + added).clamp(max=1.0)
    # Black has no hue: it becomes grey.
    return torch.where(value > 0, images * (raised / value.clamp(min=1e-6)), raised)


def plasma(u: Tensor, size: torch.Size, decay: float) -> Tensor:
    """(N, `NUMBERS`) random numbers -> (N, 1, H, W) clouds from 0 to 1.

    Grids of noise, each twice as fine as the one before and weaker by ``decay``, added up: what the
    midpoints of a plasma fractal come to.
    """
    total = torch.zeros(len(u), 1, *size, device=u.device)
    start = 0
    for octave in range(_OCTAVES):
        side = 2**octave + 1
        grid = u[:, start : start + side * side].reshape(-1, 1, side, side)
        start += side * side
        finer = functional.interpolate(grid, tuple(size), mode="bilinear", align_corners=True)
        total += finer * decay**-octave
    low, high = (per_image(pick(total.flatten(1), dim=1)) for pick in (torch.amin, torch.amax))
    return (total - low) / (high - low).clamp(min=1e-6)


WEATHER: dict[str, Corruption] = {
    "snow": Corruption(
        "Snow",
        "weather",
        snow,
        (
            (0.1, 0.2, 1.0, 0.6, 8.0, 3.0, 0.8),
            (0.1, 0.2, 1.0, 0.5, 10.0, 4.0, 0.8),
            (0.15, 0.3, 1.75, 0.55, 10.0, 4.0, 0.7),
            (0.25, 0.3, 2.25, 0.6, 12.0, 6.0, 0.65),
            (0.3, 0.3, 1.25, 0.65, 14.0, 12.0, 0.6),
        ),
    ),
    "frost": Corruption(
        "Frost", "weather", frost, ((1.0, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55))
    ),
    "fog": Corruption(
        "Fog", "weather", fog, ((0.4, 3.0), (0.7, 3.0), (1.0, 2.5), (1.5, 2.0), (2.0, 1.75))
    ),
    "brightness": Corruption(
        "Brightness", "weather", brightness, ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,))
    ),
}
