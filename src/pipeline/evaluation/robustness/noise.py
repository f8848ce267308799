"""Corruptions that a sensor makes: Gaussian, shot and impulse noise."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from pipeline.evaluation.robustness.corruption import Corruption, Randomness
from pipeline.vision.randomness import OnDevices

_QUANTILES = 4096
_LEVELS = 256


def gaussian(images: Tensor, randomness: Randomness, sigma: float) -> Tensor:
    """Independent Gaussian noise, as in poor light."""
    return images + sigma * randomness.normal(*images.shape[1:])


def shot(images: Tensor, randomness: Randomness, photons: float) -> Tensor:
    """Poisson noise: white is ``photons`` photons a pixel on average."""
    u = randomness.uniform(*images.shape[1:])
    level = (images * (_LEVELS - 1)).round().long().clamp_(0, _LEVELS - 1)
    place = level * _QUANTILES + (u * _QUANTILES).long()
    return _poisson(photons).on(images.device)[place]


def impulse(images: Tensor, randomness: Randomness, share: float) -> Tensor:
    """This share of the numbers is black or white, as bit errors leave them."""
    u = randomness.uniform(*images.shape[1:])
    changed = torch.where(u < share / 2, 0.0, images)
    return torch.where(u >= 1.0 - share / 2, 1.0, changed)


@functools.lru_cache(maxsize=16)
def _poisson(photons: float) -> OnDevices:
    """(levels * quantiles,): the Poisson distribution of each grey, divided by ``photons``."""
    mean = np.arange(_LEVELS) / (_LEVELS - 1) * photons
    counts = np.arange(int(photons + 12 * photons**0.5 + 12))
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(counts[1:]))])
    with np.errstate(divide="ignore", invalid="ignore"):
        log_mass = counts * np.log(mean[:, None]) - mean[:, None] - log_factorial
    log_mass[0] = np.where(counts == 0, 0.0, -np.inf)  # black stays black
    below = np.exp(log_mass).cumsum(axis=1)
    u = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    values = np.stack([np.searchsorted(row, u) for row in below])
    return OnDevices(torch.from_numpy((values / photons).astype(np.float32)).view(-1))


NOISES: dict[str, Corruption] = {
    "gaussian_noise": Corruption(
        "Gaussian noise", "noise", gaussian, ((0.04,), (0.08,), (0.12,), (0.15,), (0.18,))
    ),
    "shot_noise": Corruption(
        "Shot noise", "noise", shot, ((250.0,), (100.0,), (50.0,), (30.0,), (15.0,))
    ),
    "impulse_noise": Corruption(
        "Impulse noise", "noise", impulse, ((0.01,), (0.02,), (0.05,), (0.08,), (0.14,))
    ),
}
