"""What is measured on decoded pixels, each within a small share of the time that decoding takes.

Tone and sharpness look at about `SAMPLE` pixels, in rows spread over the whole height: a large
image costs no more than a small one, and for telling dark, flat and blurred images they are plenty.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.decode import DecodeError

Grey = NDArray[np.uint8]
"""(H, W) grey levels of an upright image."""

SAMPLE = 1 << 15

_HASH_SIDE = 32
_SHRUNK_SIDE = 96
_BLOCK = 1 << 13  # words of 8 bytes: a block and its keys stay in the processor's cache
_BLOCKS = 8  # taken at once
_MOMENTS = np.stack([np.arange(256.0), np.arange(256.0) ** 2], axis=1)


def to_grey(image: Image.Image) -> Image.Image:
    """``image`` in mode L. 16-bit images keep their upper byte, where Pillow would clip them.

    Raises:
        DecodeError: Pillow cannot turn its mode into grey.
    """
    if image.mode == "L":
        return image
    if image.mode.startswith("I"):  # 16 bits, also where Pillow holds them in 32
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    try:
        return image.convert("L")
    except ValueError as error:
        raise DecodeError("unreadable", f"pixels of mode {image.mode}: {error}") from error


def tone(grey: Grey) -> tuple[float, float, float]:
    """Brightness (mean, 0..1), contrast (standard deviation, 0..1), entropy (bits, 0..8).

    All three come from the exact counts of the 256 grey levels in the sample.
    """
    sample = Image.fromarray(grey[:: _step(grey)])
    size = sample.width * sample.height
    counts = np.array(sample.histogram(), np.float64)
    total, squares = (int(moment) for moment in counts @ _MOMENTS)
    variance = (squares * size - total * total) / size**2
    entropy = math.log2(size) - float(counts @ np.log2(np.maximum(counts, 1))) / size
    # Rounded, because the last bit of a logarithm differs from processor to processor.
    return total / size / 255, variance**0.5 / 255, abs(round(entropy, 6))


def sharpness(grey: Grey) -> float:
    """Variance of the Laplacian, in squared grey levels (Pech-Pacheco et al., ICPR 2000).

    Taken at full resolution, so that blur is seen in large images as well. The sums are of whole
    numbers below 2^53, so they are exact, and the same on every machine. 0 for images below 3 × 3.
    """
    if min(grey.shape) < 3:
        return 0.0
    step = _step(grey)
    centre = grey[1:-1:step]
    laplacian = np.multiply(centre[:, 1:-1], -4, dtype=np.int16)
    laplacian += grey[:-2:step, 1:-1]
    laplacian += grey[2::step, 1:-1]
    laplacian += centre[:, :-2]
    laplacian += centre[:, 2:]
    values = laplacian.ravel().astype(np.float64)
    total, squares = int(values.sum()), int(values @ values)
    return (squares * values.size - total * total) / values.size**2


def _step(grey: Grey) -> int:
    """Every how many rows are sampled."""
    return -(-grey.size // SAMPLE)


def _keys() -> NDArray[np.uint64]:
    """(2, _BLOCK) Odd numbers, the same on every machine and for all time."""
    drawn = hashlib.shake_256(b"pixel hash").digest(2 * 8 * _BLOCK)
    return np.frombuffer(drawn, "<u8").reshape(2, _BLOCK) | np.uint64(1)


_KEYS = _keys()


def pixel_hash(image: Image.Image, pixels: Grey | None = None) -> str:
    """A 128-bit hash of mode, size and all pixels; a palette counts by its colours.

    A multilinear hash (Lemire and Kaser, 2014) of each 64 KiB, and SHA-256 over these: as exact as
    SHA-256 of everything for images that nobody made to collide, at a quarter of its time. The
    second sum takes each word's bytes in reverse, since changes in only the highest bits of words
    are what the first one tells worst. ``pixels`` are those of ``image``, if at hand.
    """
    if pixels is None:
        content = image.convert("RGBA") if image.mode in {"P", "PA"} else image
        raw = np.frombuffer(content.tobytes(), np.uint8)
    else:
        raw = np.ascontiguousarray(pixels).ravel()
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode())
    whole = raw.size - raw.size % (8 * _BLOCK)
    words = raw[:whole].view("<u8").reshape(-1, _BLOCK)
    for start in range(0, len(words), _BLOCKS):
        _add(digest, words[start : start + _BLOCKS])
    if whole < raw.size:
        rest = np.zeros(-(-(raw.size - whole) // 8) * 8, np.uint8)
        rest[: raw.size - whole] = raw[whole:]
        _add(digest, rest.view("<u8")[None])
    return digest.hexdigest()[:32]


def _add(digest: hashlib._Hash, words: NDArray[np.uint64]) -> None:
    """Add the two sums of each row of ``words``, modulo 2^64."""
    width = words.shape[1]
    for rows, keys in ((words, _KEYS[0, :width]), (words.byteswap(), _KEYS[1, :width])):
        digest.update(np.vecdot(rows, keys).astype("<u8", copy=False))


def shrink(grey: Image.Image) -> Image.Image:
    """``grey`` made smaller by a whole number, to a shorter side of at least `_SHRUNK_SIDE`.

    The perceptual hash and the fingerprint start from it: the large image is gone through once.
    """
    factor = min(grey.size) // _SHRUNK_SIDE
    return grey.reduce(factor) if factor > 1 else grey


def _cosines() -> NDArray[np.float64]:
    """Rows 1 to 8 of the 32-point DCT-II."""
    frequency = np.arange(1, 9)[:, None]
    position = np.arange(_HASH_SIDE)[None, :]
    return np.cos(np.pi * frequency * (2 * position + 1) / (2 * _HASH_SIDE))


_COSINES = _cosines()


def perceptual_hash(grey: Image.Image) -> str:
    """The 64-bit pHash (Zauner, 2010) as 16 hex digits; equal-looking images differ in few bits.

    Signs, against their median, of the 8 × 8 lowest frequencies without the constant ones in the
    DCT of the image at 32 × 32.
    """
    small = grey.resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.HAMMING, reducing_gap=2.0)
    spectrum = _COSINES @ np.asarray(small, dtype=np.float64) @ _COSINES.T  # (8, 8)
    spectrum = spectrum.round(6).ravel()  # a flat image is zeros, not the last bits of a sum
    middle = np.sort(spectrum)[31:33].mean()
    return np.packbits(spectrum > middle).tobytes().hex()
