"""What a corruption is, and the random numbers it has for each image.

The settings of the five severities are those of Tiny ImageNet-C (Hendrycks & Dietterich,
Benchmarking neural network robustness to common corruptions and perturbations, 2019), whose images
are 64 pixels wide; lengths grow with the image's side.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.vision.randomness import OnDevices, noise, streams, uniform

SEVERITIES = (1, 2, 3, 4, 5)
_REFERENCE_SIDE = 64


@dataclass(frozen=True)
class Randomness:
    """Random numbers that follow from (seed, what for, severity, the image's key) alone."""

    keys: Tensor
    """(N,) ``int64``, `Packed.keys` of the images."""
    seed: int
    severity: int
    purpose: str

    def uniform(self, *shape: int) -> Tensor:
        """(N, *shape) ``float32`` in [0, 1); the same each time it is asked for."""
        count = torch.Size(shape).numel()
        numbers = _streams(self.purpose, count).on(self.keys.device)
        drawn = uniform(self.keys, numbers, seed=self.seed, epoch=self.severity)
        return drawn.view(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """(N, *shape) nearly Gaussian of mean 0 and standard deviation 1."""
        place = _streams(f"{self.purpose} normal", 1).on(self.keys.device)
        u = uniform(self.keys, place, seed=self.seed, epoch=self.severity)
        return noise(u[:, 0], shape)


@functools.lru_cache(maxsize=64)
def _streams(purpose: str, count: int) -> OnDevices:
    return OnDevices(streams([(purpose, count)]))


@dataclass(frozen=True)
class Corruption:
    """One of the fifteen."""

    title: str
    group: str
    apply: Callable[..., Tensor]
    """(images (N, C, H, W) ``float32`` in [0, 1], `Randomness`, *settings) -> a new tensor like
    the images, not yet clamped."""
    settings: tuple[tuple[Any, ...], ...]
    """Of each severity."""


def corrupt(
    images: Tensor, keys: Tensor, name: str, corruption: Corruption, severity: int, *, seed: int
) -> Tensor:
    """Corrupted copies of ``images``.

    Args:
        images: (N, C, H, W) ``float32`` in [0, 1], one channel or three.
        keys: (N,) ``int64`` on the same device; an image's randomness follows from its key.
        name: of the corruption, for its random numbers.
        corruption: which.
        severity: 1 to 5.
        seed: of the evaluation.

    Returns:
        (N, C, H, W) ``float32`` in [0, 1], in steps of 1/255: as a file would hold it.
    """
    randomness = Randomness(keys, seed, severity, name)
    changed = corruption.apply(images, randomness, *corruption.settings[severity - 1])
    return changed.clamp_(0.0, 1.0).mul_(255.0).round_().div_(255.0)


def pixels(length: float, images: Tensor) -> float:
    """A length on images of 64 pixels, on these."""
    return length * images.shape[-1] / _REFERENCE_SIDE
