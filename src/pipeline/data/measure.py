"""What one image file tells about itself: the part of the manifest that comes from its bytes.

A worker process imports this module and nothing heavier than NumPy and Pillow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.decode import Decoded, DecodeError, decode

_HASH_SIDE = 32
_SAMPLE = 1 << 16
_LEVELS = np.arange(256)
_SQUARED_LEVELS = _LEVELS**2


@dataclass(frozen=True, slots=True)
class Measures:
    """One file's columns of the manifest, under the manifest's names; ``None`` where unknown."""

    file_name: str
    extension: str
    status: str = "ok"
    error: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    format: str | None = None
    mode: str | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    exif_orientation: int | None = None
    brightness: float | None = None
    contrast: float | None = None
    sharpness: float | None = None
    entropy: float | None = None
    pixel_hash: str | None = None
    phash: str | None = None


@dataclass(frozen=True)
class Limits:
    """What is not read or decoded at all."""

    max_bytes: int
    max_pixels: int


def measure_files(folder: Path, limits: Limits, file_names: Sequence[str]) -> list[Measures]:
    return [measure_file(folder, file_name, limits) for file_name in file_names]


def measure_file(folder: Path, file_name: str, limits: Limits) -> Measures:
    """Read, decode and measure ``folder / file_name``; a bad file ends in ``status``, not an error.

    Widths, heights and all measures are those of the upright image (EXIF applied).
    """
    known = Measures(file_name, PurePosixPath(file_name).suffix.lower())
    path = folder / file_name
    try:
        size = path.stat().st_size
        if not path.is_file():
            return replace(known, status="unreadable", error="this is no file")
        known = replace(known, bytes=size)
        if size > limits.max_bytes:
            reason = f"{size:,} bytes, above {limits.max_bytes:,}"
            return replace(known, status="too_large", error=reason)
        data = path.read_bytes()
    except FileNotFoundError:
        return replace(known, status="missing", error="listed, but not there")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        return replace(known, status="unreadable", error=reason)
    known = replace(known, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    try:
        return _measure_pixels(known, decode(data, max_pixels=limits.max_pixels))
    except DecodeError as error:
        return replace(known, status=error.status, error=error.reason)
    except MemoryError:
        return replace(known, status="too_large", error="does not fit into memory")


def _measure_pixels(known: Measures, decoded: Decoded) -> Measures:
    image = decoded.image
    grey = to_grey(image)
    brightness, contrast, entropy = tone(grey)
    return replace(
        known,
        format=decoded.format,
        mode=image.mode,
        width=image.width,
        height=image.height,
        frames=decoded.frames,
        exif_orientation=decoded.exif_orientation,
        brightness=brightness,
        contrast=contrast,
        sharpness=sharpness(grey),
        entropy=entropy,
        pixel_hash=pixel_hash(image),
        phash=perceptual_hash(grey),
    )


def to_grey(image: Image.Image) -> Image.Image:
    """``image`` in mode L. 16-bit images keep their upper byte, which Pillow would clip.

    Raises:
        DecodeError: Pillow cannot turn its mode into grey.
    """
    if image.mode == "L":
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    try:
        return image.convert("L")
    except ValueError as error:
        raise DecodeError("unreadable", f"pixels of mode {image.mode}: {error}") from error


def tone(grey: Image.Image) -> tuple[float, float, float]:
    """Brightness (mean, 0..1), contrast (standard deviation, 0..1), entropy (bits, 0..8).

    All three come from the exact counts of the 256 grey levels.
    """
    counts = np.asarray(grey.histogram(), dtype=np.int64)
    size = grey.width * grey.height
    total, squares = int(counts @ _LEVELS), int(counts @ _SQUARED_LEVELS)
    variance = (squares * size - total * total) / (size * size)
    shares = counts[counts > 0] / size
    entropy = -float(shares @ np.log2(shares))
    # Rounded, because the last bit of a logarithm differs from processor to processor.
    return total / size / 255, variance**0.5 / 255, abs(round(entropy, 6))


def sharpness(grey: Image.Image) -> float:
    """Variance of the Laplacian, in squared grey levels (Pech-Pacheco et al., ICPR 2000).

    Taken on every k-th row at full resolution, with k so that about `_SAMPLE` pixels count: blur
    is seen as well, and a large image costs no more than a small one. The sums are of whole numbers
    below 2^53, so they are exact, and the same on every machine. 0 for images below 3 × 3.
    """
    pixels: NDArray[np.uint8] = np.asarray(grey)  # (H, W)
    height, width = pixels.shape
    if height < 3 or width < 3:
        return 0.0
    step = -(-pixels.size // _SAMPLE)
    centre = pixels[1:-1:step].astype(np.int16)
    laplacian = centre * np.int16(-4)
    laplacian += pixels[:-2:step]
    laplacian += pixels[2::step]
    # Neighbours in a row are neighbours in memory; the two edges, where that is wrong, are cut off.
    laplacian.ravel()[1:-1] += centre.ravel()[:-2]
    laplacian.ravel()[1:-1] += centre.ravel()[2:]
    exact = laplacian[:, 1:-1].astype(np.float64)
    total = int(np.vecdot(exact, np.ones(width - 2)).sum())
    squares = int(np.vecdot(exact, exact).sum())
    return (squares * exact.size - total * total) / exact.size**2


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 of mode, size and pixels; a palette counts by its colours, not by its order."""
    pixels = image.convert("RGBA") if image.mode in {"P", "PA"} else image
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode())
    digest.update(pixels.tobytes())
    return digest.hexdigest()


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
    side = (_HASH_SIDE, _HASH_SIDE)
    small = grey.resize(side, Image.Resampling.LANCZOS, reducing_gap=2.0)
    spectrum = _COSINES @ np.asarray(small, dtype=np.float64) @ _COSINES.T  # (8, 8)
    spectrum = spectrum.round(6).ravel()  # a flat image is zeros, not the last bits of a sum
    middle = np.sort(spectrum)[31:33].mean()
    return np.packbits(spectrum > middle).tobytes().hex()
