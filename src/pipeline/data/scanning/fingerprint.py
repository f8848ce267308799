"""The small picture of an image by which near duplicates are told from images that look alike.

A worker process imports this module and nothing heavier than NumPy and Pillow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.scanning.pixel_measures import Shrunk

SIDE = 40
PICTURE_BYTES = SIDE * SIDE
CUTS = (0.01, 0.02)
"""What a crop may have lost at each edge, in shares of the image."""
FINGERPRINT_BYTES = PICTURE_BYTES + 8 * len(CUTS)

Hashes = NDArray[np.uint64]


def picture(shrunk: Shrunk) -> bytes:
    """Its grey levels at `SIDE` × `SIDE` pixels, row by row, whatever its shape."""
    box = (0.0, 0.0, *shrunk.extent)
    return shrunk.image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box).tobytes()


def fingerprints(pictures: Sequence[bytes]) -> list[tuple[str, bytes]]:
    """The perceptual hash of each of ``pictures`` in 16 hex digits, and its fingerprint.

    The latter is the picture and, of 8 bytes each, the hashes that it would have without `CUTS`.

    The hash is the 64-bit pHash (Zauner, 2010) of the picture: the signs, against their median, of
    the 8 × 8 lowest frequencies without the constant ones. Equal-looking images differ in few bits.
    """
    pixels = np.frombuffer(b"".join(pictures), np.uint8).reshape(-1, SIDE, SIDE)
    hashes = [_hashes(_spectra(pixels, waves)) for waves in _WAVES]
    whole, *cut = hashes
    tails = np.stack(cut, axis=1).astype(">u8")
    return [
        (f"{number:016x}", pixels + tail.tobytes())
        for number, pixels, tail in zip(whole.tolist(), pictures, tails, strict=True)
    ]


def cut_hashes(fingerprints: NDArray[np.uint8], rows: NDArray[np.int64]) -> Hashes:
    """(len(CUTS), P) The hashes without `CUTS` of images ``rows`` of ``fingerprints``."""
    tails = fingerprints[:, PICTURE_BYTES:][rows]
    return tails.view(">u8").astype(np.uint64).T


def _spectra(pixels: NDArray[np.uint8], waves: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 64) The products of ``pixels`` with waves along both axes.

    Multiplied as two large matrices: many small ones take twice as long.
    """
    count = len(pixels)
    across = (pixels.reshape(-1, SIDE) @ waves.T).reshape(count, SIDE, 8)
    down = across.swapaxes(1, 2).reshape(-1, SIDE) @ waves.T  # (N * 8, 8), transposed
    spectra: NDArray[np.float64] = down.reshape(count, 8, 8).swapaxes(1, 2).reshape(count, 64)
    return spectra.round(6)  # a flat image is zeros, not the last bits of a sum


def _hashes(spectra: NDArray[np.float64]) -> Hashes:
    middle = np.partition(spectra, (31, 32), axis=1)[:, 31:33].mean(axis=1, keepdims=True)
    bits = np.packbits(spectra > middle, axis=1)
    return bits.view(">u8")[:, 0].astype(np.uint64)


def _waves(cut: float) -> NDArray[np.float64]:
    """Waves 1 to 8 over the part of `SIDE` pixels that is left without ``cut`` at each end."""
    edges = np.clip(np.arange(SIDE + 1) / SIDE, cut, 1 - cut)
    inside = np.diff(edges)
    place = (edges[1:] + edges[:-1] - 2 * cut) / 2 / (1 - 2 * cut)
    waves = np.cos(np.pi * np.arange(1, 9)[:, None] * place) * inside
    waves -= waves.sum(axis=1, keepdims=True) * inside / inside.sum()
    return waves


_WAVES = tuple(_waves(cut) for cut in (0.0, *CUTS))
