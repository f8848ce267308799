"""What is measured on decoded pixels, each within a small share of the time that decoding takes.

Tone and sharpness look at about `SAMPLE` pixels, in rows spread over the whole height: a large
image costs no more than a small one, and for telling dark, flat and blurred images they are plenty.
Colours become grey only where a measure looks at them.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.decode import DecodeError
from pipeline.data.scanning.memory import Bytes, stored_bytes

SAMPLE = 1 << 14

_COLOURS = {"RGB", "RGBA", "RGBX"}
_SHRUNK_SIDE = 80
_MANY_ROWS = 4
_MOST_ROWS = 64  # of which a sum of four columns fits into 16 bits
_MOMENTS = np.stack([np.arange(256.0), np.arange(256.0) ** 2], axis=1)
_PADDING = np.uint32(int.from_bytes(b"\0\0\0\xff", "little"))
_WORDS = np.dtype("<u4")


Sums = NDArray[np.uint16]


class Shrunk(NamedTuple):
    """A small picture in mode L, and how much of its width and height is the image's.

    Its last column and row may stand for fewer pixels than the others do.
    """

    image: Image.Image
    extent: tuple[float, float]


def lit(image: Image.Image) -> Bytes:
    """The stored bytes of ``image`` in red, green and blue if it has these, or else in grey."""
    return stored_bytes(image if image.mode in _COLOURS else to_grey(image))


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


def sampled_rows(pixels: Bytes) -> Bytes:
    """(3, N, W) Grey levels of N rows of ``pixels``, each after the row above it, then those below.

    (1, H, W) for images without a row that has both.
    """
    if len(pixels) < 3:
        return _grey(pixels[None])
    step = -(-pixels.shape[0] * pixels.shape[1] // SAMPLE)
    return _grey(np.stack([pixels[:-2:step], pixels[1:-1:step], pixels[2::step]]))


def _grey(pixels: Bytes) -> Bytes:
    """(…, W) Grey levels of ``pixels`` (…, W) or (…, W, 4), as `to_grey` makes them."""
    if pixels.ndim == 3:
        return pixels
    width = pixels.shape[-2]
    size = (width, pixels.size // (4 * width))
    colours = Image.frombuffer("RGBX", size, np.ascontiguousarray(pixels), "raw", "RGBX", 0, 1)
    return stored_bytes(colours.convert("L")).reshape(pixels.shape[:-1])


def tones(samples: list[Bytes]) -> list[tuple[float, float, float]]:
    """Of each sample (…, N, W) brightness and contrast (mean and standard deviation, 0..1), and
    entropy (bits, 0..8).

    All three come from the exact counts of the 256 grey levels.
    """
    numbers = array("d")  # NumPy would take four times as long to read the lists
    for sample in samples:
        numbers.extend(_counts(sample[len(sample) // 2]))
    counts = np.frombuffer(numbers).reshape(len(samples), 256)
    sizes = counts.sum(axis=1)
    totals, squares = (counts @ _MOMENTS).T
    means = totals / sizes
    # Whole numbers below 2^53, so that they are the same on every machine.
    deviations = np.sqrt(squares * sizes - totals * totals) / sizes
    entropies = np.log2(sizes) - np.vecdot(counts, np.log2(np.maximum(counts, 1))) / sizes
    # Rounded, because the last bit of a logarithm differs from processor to processor.
    table = np.stack([means / 255, deviations / 255, np.abs(entropies.round(6))], axis=1)
    return [(a, b, c) for a, b, c in table.tolist()]


def _counts(rows: Bytes) -> list[int]:
    """How often each grey level is there."""
    height, width = rows.shape
    levels = np.ascontiguousarray(rows)
    return Image.frombuffer("L", (width, height), levels, "raw", "L", 0, 1).histogram()


def sharpness(sample: Bytes) -> float:
    """Variance of the Laplacian, in squared grey levels (Pech-Pacheco et al., ICPR 2000).

    Taken at full resolution, so that blur is seen in large images as well. The sums are of whole
    numbers below 2^53, so they are exact, and the same on every machine. 0 for images below 3 × 3.

    Args:
        sample: what `sampled_rows` gave.
    """
    if len(sample) < 3 or sample.shape[2] < 3:
        return 0.0
    above, centre, below = sample.astype(np.int16)
    laplacian = above + below
    # Row after row in one piece: what that makes of the first and the last column is left out.
    flat = centre.ravel()
    laplacian.ravel()[1:-1] += flat[:-2] + flat[2:]
    laplacian -= 4 * centre
    values = laplacian[:, 1:-1].astype(np.float64).ravel()
    total, squares = int(values.sum()), int(values @ values)
    return (squares * values.size - total * total) / values.size**2


def pixel_hash(image: Image.Image) -> str:
    """A 128-bit hash of mode, size and all pixels; a palette counts by its colours.

    XXH3 is as exact as SHA-256 for images that nobody made to collide, at a thirtieth of its time.
    What somebody would gain by two images of one hash is that one of his own is taken for a copy
    of the other.
    """
    digest = xxhash.xxh3_128(f"{image.mode} {image.width} {image.height} ".encode())
    digest.update(_content(image))
    return digest.hexdigest()


def _content(image: Image.Image) -> bytes | memoryview:
    """All that tells ``image`` from others of its mode and size, the same however it was made."""
    if image.mode in {"P", "PA"}:
        image = image.convert("RGBA")
    if image.mode in {"L", "RGBA"}:
        return stored_bytes(image).data
    if image.mode != "RGB":
        return image.tobytes()
    pixels = stored_bytes(image)
    words = pixels.reshape(-1).view(_WORDS)
    if np.bitwise_and.reduce(words) >= _PADDING:  # the byte without a meaning is 255 everywhere
        return pixels.data
    return (words | _PADDING).data


def shrink(pixels: Bytes) -> Shrunk:
    """The grey picture of ``pixels`` (H, W) or (H, W, 4), smaller by whole numbers along each axis.

    Its sides are at least `_SHRUNK_SIDE`, where the image's are. The perceptual hash and the
    fingerprint start from it: the large image is gone through once, row by row, and where many rows
    become one by every other of them.
    """
    height, width = pixels.shape[:2]
    rows = min(max(1, height // _SHRUNK_SIDE), _MOST_ROWS)
    columns = next((n for n in (4, 2) if width // n >= _SHRUNK_SIDE), 1)
    step = 2 if rows >= _MANY_ROWS else 1
    rows //= step
    sums = _row_sums(pixels.reshape(height, -1)[::step], rows)
    if pixels.ndim == 2:
        means = _means(_beside(sums, columns), rows * columns)
    else:
        means = _grey(_means(_beside_in_colour(sums, columns), rows * columns)[None])[0]
    size = (means.shape[1], means.shape[0])
    picture = Image.frombuffer("L", size, means, "raw", "L", 0, 1)
    return Shrunk(picture, (width / columns, height / step / rows))


def _row_sums(levels: Bytes, rows: int) -> Sums:
    """The sums of each ``rows`` rows; the last ones count as many times as it takes."""
    whole, rest = divmod(len(levels), rows)
    sums = np.empty((whole + bool(rest), levels.shape[1]), np.uint16)
    blocks, full = levels[: whole * rows], sums[:whole]
    full[:] = blocks[::rows]
    for i in range(1, rows):
        full += blocks[i::rows]
    if rest:
        total = np.add.reduce(levels[-rest:], axis=0, dtype=np.uint32)
        sums[whole] = (total * rows + rest // 2) // rest
    return sums


def _beside(sums: Sums, columns: int) -> Sums:
    """(N, W / columns) The sums of each ``columns`` neighbours in rows of grey levels."""
    if columns == 1:
        return sums
    words = _padded(sums, columns, 1).view(f"u{2 * columns}")  # one word holds them all
    # Multiplied by 1 for each of them, the highest 16 bits of the word are their sum.
    totals = words * words.dtype.type(sum(1 << 16 * i for i in range(columns)))
    totals >>= words.dtype.type(16 * (columns - 1))
    return totals.astype(np.uint16)


def _beside_in_colour(sums: Sums, columns: int) -> Sums:
    """(N, W / columns, 4) The same in rows of four channels a pixel, for each channel."""
    words = _padded(sums, columns, 4).view(np.uint64)  # one word a pixel
    totals = words[:, ::columns].copy()
    for i in range(1, columns):
        totals += words[:, i::columns]  # no channel's sum reaches the bits of the next one
    return totals.view(np.uint16).reshape(*totals.shape, 4)


def _padded(sums: Sums, columns: int, channels: int) -> Sums:
    """``sums`` with the last pixel repeated to a multiple of ``columns``."""
    lacking = -(sums.shape[1] // channels) % columns
    if not lacking:
        return sums
    return np.concatenate([sums, np.tile(sums[:, -channels:], lacking)], axis=1)


def _means(sums: Sums, count: int) -> Bytes:
    levels = sums + np.uint16(count // 2)
    levels //= np.uint16(count)
    return levels.astype(np.uint8)
