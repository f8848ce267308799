"""Random numbers that are derived, never carried: hashes of what they are for.

Everything is computed on the device for a whole batch at once, in whole numbers: the bits are the
same on every device.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable

import torch
from torch import Tensor


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


def noise(seeds: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Nearly Gaussian noise of mean 0 and standard deviation 1, within 3.5 of it.

    Four bytes of one hash are added up. A value is counted by its place in ``shape``, whatever the
    layout in memory.

    Args:
        seeds: (N,) in [0, 1), one for each image.
        shape: of an image.

    Returns:
        (N, *shape) ``float32``.
    """
    place = torch.arange(torch.Size(shape).numel(), dtype=torch.int32, device=seeds.device)
    start = (seeds * 2**24).int() * _signed(0x9E3779B1, 32)
    bits = _mix_small(start.view(-1, *(1 for _ in shape)) + place.view(shape))
    pairs = (bits & 0xFF00FF) + ((bits >> 8) & 0xFF00FF)
    total = (pairs & 0xFFFF) + (pairs >> 16)  # of four bytes
    return (total.float() - 510.0) / (4 * (256**2 - 1) / 12) ** 0.5


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
