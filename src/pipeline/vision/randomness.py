"""Random numbers that are derived, never carried: hashes of what they are for.

Everything is computed on the device for a whole batch at once, in whole numbers: the bits are the
same on every device.
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


class OnDevices:
    """A constant tensor, copied to each device once: no later step has a copy to wait for."""

    def __init__(self, values: Tensor) -> None:
        self._copies = {values.device: values}

    def on(self, device: torch.device) -> Tensor:
        if device not in self._copies:
            self._copies[device] = next(iter(self._copies.values())).to(device)
        return self._copies[device]


def streams(uses: Iterable[tuple[str, int]]) -> Tensor:
    """A number for each random number an image needs, from the name of what it is for.

    Args:
        uses: name and how many numbers it needs; none depends on the other names.

    Returns:
        ``int64`` of one dimension, in the order of ``uses``.
    """
    offsets = [(zlib.crc32(name.encode()) << 16) + i for name, count in uses for i in range(count)]
    return _mix(torch.tensor(offsets, dtype=torch.int64))


def uniform(keys: Tensor, streams: Tensor, *, seed: int, epoch: int) -> Tensor:
    """(N,) ``int64`` keys, (S,) `streams` -> (N, S) ``float32`` in [0, 1)."""
    bits = _mix(_mix(keys ^ _mix_numbers(seed, epoch))[:, None] ^ streams)
    # 24 bits are what float32 holds exactly.
    return ((bits >> 40) & 0xFFFFFF).float() * 2.0**-24


def repeated(keys: Tensor, occurrences: Tensor) -> Tensor:
    """Keys for images that an epoch holds several times: of their own for each occurrence.

    Args:
        keys: (N,) ``int64``.
        occurrences: (N,) ``int64``, from 0, which leaves a key as it is.
    """
    return keys + occurrences * _signed(0x9E3779B97F4A7C15)


def beta_quantiles(alpha: float) -> Tensor:
    """The quantiles of Beta(``alpha``, ``alpha``) at equal steps from 0 to 1, for `interpolate`.

    (4097,) ``float32``. The distribution function is integrated up to its middle, and over
    t = x ** alpha where ``alpha`` is below 1, for there it has a pole at 0.
    """
    power = min(alpha, 1.0)
    t = np.linspace(0.0, 0.5**power, 2**16 + 1)
    x = t ** (1.0 / power)
    density = t ** (alpha / power - 1.0) * (1.0 - x) ** (alpha - 1.0)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    lower = np.interp(np.linspace(0.0, 0.5, 2**11 + 1), 0.5 * below / below[-1], x)
    return torch.from_numpy(np.concatenate([lower, 1.0 - lower[-2::-1]])).float()


def interpolate(values: Tensor, u: Tensor) -> Tensor:
    """(N,) in [0, 1) -> (N,): ``values`` stand at equal steps from 0 to 1, straight between."""
    place = u * (len(values) - 1)
    left = place.long()
    return torch.lerp(values[left], values[left + 1], place - left)


def noise(seeds: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Nearly Gaussian noise of mean 0 and standard deviation 1, within 3.5 of it.

    Each image has a stretch of one long list of noise, from a place of its own: a hash for each
    pixel of each step costs ten times as much.

    Args:
        seeds: (N,) in [0, 1), one for each image.
        shape: of an image.

    Returns:
        (N, *shape) ``float32``.
    """
    count = torch.Size(shape).numel()
    longest = -(-count // _PLACES) * _PLACES  # so that images of most sizes share one list
    stretches = _noise(longest + _PLACES).on(seeds.device).unfold(0, count, 1)  # (places, count)
    return stretches[(seeds * _PLACES).long()].view(-1, *shape)


_PLACES = 2**20


@functools.lru_cache(maxsize=8)
def _noise(count: int) -> OnDevices:
    """(count,): four bytes of each number's hash, added up. Longer ones begin alike."""
    bits = _mix_small(torch.arange(count, dtype=torch.int32) * _signed(0x9E3779B1, 32))
    pairs = (bits & 0xFF00FF) + ((bits >> 8) & 0xFF00FF)
    total = (pairs & 0xFFFF) + (pairs >> 16)
    return OnDevices((total.float() - 510.0) / (4 * (256**2 - 1) / 12) ** 0.5)


def _mix(bits: Tensor) -> Tensor:
    """A good hash of each ``int64``, the same on every device: the finaliser of SplitMix64.

    Steele et al., Fast splittable pseudorandom number generators, 2014. Shifts are arithmetic and
    products wrap, so the shifted-in sign bits are masked away.
    """
    bits = (bits ^ ((bits >> 30) & 0x3FFFFFFFF)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ ((bits >> 27) & 0x1FFFFFFFFF)) * _signed(0x94D049BB133111EB)
    return bits ^ ((bits >> 31) & 0x1FFFFFFFF)


def _mix_numbers(seed: int, epoch: int) -> int:
    """One ``int64`` from both; computed on the host, so the device has nothing to wait for."""
    digest = hashlib.blake2b(f"{seed} {epoch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _mix_small(bits: Tensor) -> Tensor:
    """As `_mix` for ``int32``, in half the time: Wellons' ``lowbias32``."""
    bits = (bits ^ ((bits >> 16) & 0xFFFF)) * _signed(0x7FEB352D, 32)
    bits = (bits ^ ((bits >> 15) & 0x1FFFF)) * _signed(0x846CA68B, 32)
    return bits ^ ((bits >> 16) & 0xFFFF)


def _signed(bits: int, width: int = 64) -> int:
    """The number that a signed integer of these bits is."""
    return bits - 2**width if bits >= 2 ** (width - 1) else bits
