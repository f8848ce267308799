"""The one place where bytes of unknown origin become pixels.

Only decoders of `FORMATS` ever see them, an image that claims too many pixels is never decoded,
and whatever a decoder does with a broken file ends in one `DecodeError`.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from PIL import Image, UnidentifiedImageError

from pipeline.data.jpeg import find_damage
from pipeline.data.magic import magic

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
"""Pillow's names of the decoders that may run. A JPEG of several pictures comes out as MPO."""

MAX_PIXELS = 178_956_970
"""Pillow's own ceiling against decompression bombs, above which no ``max_pixels`` reaches."""

Refusal = Literal["empty", "unreadable", "truncated", "too_large"]

_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 0x0102
_MODE_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16, "I;16N": 16, "I": 16, "F": 32}
"""Where a format says no more than Pillow's mode, which holds a PPM of 16 bits as ``I``."""
_BROKEN_EXIF = (
    ArithmeticError,
    AttributeError,
    LookupError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DecodeError(Exception):
    """The bytes are no usable image. ``status`` is one of the manifest's, ``reason`` for people."""

    def __init__(self, status: Refusal, reason: str) -> None:
        super().__init__(status, reason)
        self.status: Refusal = status
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Decoded:
    """A decoded image and what its file said about it."""

    image: Image.Image
    """The first frame, upright, in the mode it is stored in."""
    format: str
    bits: int
    """Bits a channel of the stored image: a 16-bit PNG in colour has 16, though 8 come out."""
    frames: int
    exif_orientation: int | None
    """1 to 8 as in EXIF; ``None`` where the file names none. Already applied to ``image``."""


def open_image(data: bytes, *, max_pixels: int = 50_000_000) -> Image.Image:
    """The first image in ``data``: fully decoded, upright (EXIF), in the mode it is stored in.

    Raises:
        DecodeError: it is empty, of no format in `FORMATS`, broken, cut short, or claims more than
            ``max_pixels`` (or `MAX_PIXELS`).
    """
    return decode(data, max_pixels=max_pixels).image


def decode(data: bytes, *, max_pixels: int) -> Decoded:
    """As `open_image`, with what the file says about the image."""
    if not data:
        raise DecodeError("empty", "the file has no bytes")
    try:
        return _decode(data, max_pixels)
    except DecodeError:
        raise
    except UnidentifiedImageError as error:
        raise DecodeError("unreadable", _not_identified(data)) from error
    except Image.DecompressionBombError as error:
        raise DecodeError("too_large", f"claims more than {MAX_PIXELS:,} pixels") from error
    except MemoryError as error:
        raise DecodeError("too_large", "does not fit into memory") from error
    except Exception as error:  # whatever a decoder raises, the file is the cause
        raise DecodeError(_status(data, error), _one_line(error)) from error


def _not_identified(data: bytes) -> str:
    begins = magic(data)
    if begins in FORMATS:
        return f"begins as a {begins} image, but its header is broken or cut short"
    known = f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
    return known if begins is None else f"{known}, but {begins}"


def _decode(data: bytes, max_pixels: int) -> Decoded:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise DecodeError(
                "too_large", f"claims {width:,} × {height:,} pixels, above {max_pixels:,}"
            )
        file_format = image.format or "unknown"
        frames = int(getattr(image, "n_frames", 1))
        bits = _bits(image, data)
        orientation = _orientation(image)  # before loading: a loaded TIFF has turned itself
        image.load()
        if file_format == "PNG" and not _is_whole_png(data):
            raise DecodeError("unreadable", "broken PNG file: its pixels fail their checksum")
        if file_format in {"JPEG", "MPO"} and (damage := find_damage(data)):
            raise DecodeError("unreadable", f"broken JPEG file: {damage}")
        if image.mode == "P" and image.palette is None:
            raise DecodeError("unreadable", "an image of palette colours without its palette")
        turn = None if file_format == "TIFF" else _UPRIGHT.get(orientation or 1)
        upright = image if turn is None else image.transpose(turn)
    return Decoded(upright, file_format, bits, frames, orientation)


def _is_whole_png(data: bytes) -> bool:
    """Whether each block of pixels has its checksum, which Pillow does not look at."""
    place, view = 8, memoryview(data)
    while place + 12 <= len(data):
        length = int.from_bytes(view[place : place + 4])
        end = place + 8 + length
        stored = int.from_bytes(view[end : end + 4])
        if (
            bytes(view[place + 4 : place + 8]) == b"IDAT"
            and zlib.crc32(view[place + 4 : end]) != stored
        ):
            return False
        place = end + 4
    return True


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits a channel as stored; for a palette those of its colours, which are 8."""
    if image.mode == "P":
        return 8
    if image.format == "PNG":
        return data[24]  # of the header, which Pillow has found sound
    if image.format == "TIFF":
        sizes = image.getexif().get(_BITS_PER_SAMPLE, 1)
        return max(sizes) if isinstance(sizes, tuple) else int(sizes)
    return _MODE_BITS.get(image.mode, 8)


def _orientation(image: Image.Image) -> int | None:
    try:
        value = image.getexif().get(_ORIENTATION)
    except _BROKEN_EXIF:
        return None  # the pixels may be fine all the same
    return value if isinstance(value, int) and 1 <= value <= 8 else None


def _status(data: bytes, error: Exception) -> Refusal:
    said = str(error).lower()
    if isinstance(error, EOFError) or "truncated" in said or "eof" in said:
        return "truncated"
    if data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        return "truncated"  # Pillow's WebP decoder does not say why it failed
    return "unreadable"


def _one_line(error: Exception) -> str:
    """What ``error`` says, as text that any table and terminal can show."""
    words = " ".join(str(error).split()) or type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in words)[:200]
