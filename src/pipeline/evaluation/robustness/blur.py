"""Corruptions that a lens or a hand makes: defocus, glass, motion and zoom blur."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.evaluation.robustness.corruption import Corruption, Randomness, pixels
from pipeline.vision.augmentation import Blur
from pipeline.vision.image_ops import warp

_RIM = 2.0
"""Pixels over which the rim of a disc fades."""
_ZOOMS = 11


def defocus(images: Tensor, randomness: Randomness, radius: float) -> Tensor:  # noqa: ARG001
    """Every point becomes a disc."""
    kernel = disc(pixels(radius, images)).to(images.device)
    reach = kernel.shape[0] // 2
    channels = images.shape[1]
    padded = functional.pad(images, (reach,) * 4, mode="replicate")
    return functional.conv2d(
        padded, kernel.expand(channels, 1, -1, -1).contiguous(), groups=channels
    )


def glass(
    images: Tensor, randomness: Randomness, sigma: float, distance: int, rounds: int
) -> Tensor:
    """Pixels change places with others nearby, as behind frosted glass.

    Each pixel is taken from a random place up to ``distance`` away. The original exchanges one pair
    after the other, which no batch can; both move a pixel about as far.
    """
    blurred = gaussian_blur(images, pixels(sigma, images))
    count, channels, height, width = images.shape
    reach = max(1, round(pixels(distance, images)))
    u = randomness.uniform(rounds, 2, height, width)
    moves = (u * (2 * reach + 1)).long() - reach
    rows = torch.arange(height, device=images.device)[:, None]
    columns = torch.arange(width, device=images.device)
    for i in range(rounds):
        down = (rows + moves[:, i, 0]).clamp(0, height - 1)
        right = (columns + moves[:, i, 1]).clamp(0, width - 1)
        place = (down * width + right).view(count, 1, -1).expand(-1, channels, -1)
        blurred = blurred.reshape(count, channels, -1).gather(2, place)
    return gaussian_blur(blurred.view_as(images), pixels(sigma, images))


def motion(images: Tensor, randomness: Randomness, radius: float, sigma: float) -> Tensor:
    """The camera moves along a line, from -45 to 45 degrees."""
    angle = (randomness.uniform(1)[:, 0] - 0.5) * (math.pi / 2)
    return streak(images, angle, pixels(radius, images), pixels(sigma, images))


def zoom(images: Tensor, randomness: Randomness, largest: float) -> Tensor:  # noqa: ARG001
    """The camera nears: the mean of the image at magnifications up to ``largest``."""
    total = images.clone()  # the original counts once more
    for i in range(_ZOOMS):
        factor = 1.0 / (1.0 + (largest - 1.0) * i / (_ZOOMS - 1))
        scaling = torch.diag(torch.tensor([factor, factor, 1.0], device=images.device))
        total += warp(images, scaling.expand(len(images), 3, 3))
    return total / (_ZOOMS + 1)


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blur by ``sigma`` pixels, mirrored at the border."""
    return Blur(sigma).apply(images, torch.ones(1, 1, device=images.device))


def streak(images: Tensor, angle: Tensor, radius: float, sigma: float) -> Tensor:
    """Smear each image along ``angle`` (N,), in radians, by half a Gaussian of ``sigma`` pixels.

    The smear ends after ``radius`` pixels, and after three ``sigma``, where nothing is left.
    """
    steps = max(1, math.ceil(min(radius, 3.0 * sigma)))
    weights = [math.exp(-0.5 * (i / max(sigma, 1e-3)) ** 2) for i in range(steps + 1)]
    right, down = torch.cos(angle) * 2 / images.shape[3], torch.sin(angle) * 2 / images.shape[2]
    total = images * weights[0]
    for i, weight in enumerate(weights[1:], start=1):
        shift = torch.eye(3, device=images.device).repeat(len(images), 1, 1)
        shift[:, 0, 2], shift[:, 1, 2] = i * right, i * down
        total += weight * warp(images, shift)
    return total / sum(weights)


def disc(radius: float) -> Tensor:
    """(K, K) a disc of ``radius`` pixels that adds up to 1.

    Its rim fades, so that the neighbours count on small images too, where the radius is below one.
    """
    reach = math.ceil(radius + _RIM / 2)
    line = torch.arange(-reach, reach + 1).float()
    distance = torch.hypot(line[:, None], line)
    kernel = ((radius + _RIM / 2 - distance) / _RIM).clamp(0.0, 1.0)
    return kernel / kernel.sum()


BLURS: dict[str, Corruption] = {
    "defocus_blur": Corruption(
        "Defocus blur", "blur", defocus, ((0.5,), (1.0,), (1.5,), (2.5,), (3.0,))
    ),
    "glass_blur": Corruption(
        "Glass blur",
        "blur",
        glass,
        ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
    ),
    "motion_blur": Corruption(
        "Motion blur",
        "blur",
        motion,
        ((10.0, 1.0), (10.0, 1.5), (10.0, 2.0), (10.0, 2.5), (12.0, 3.0)),
    ),
    "zoom_blur": Corruption("Zoom blur", "blur", zoom, ((1.05,), (1.1,), (1.15,), (1.2,), (1.25,))),
}
