"""The one place where bytes of unknown origin become pixels.

Only decoders of `FORMATS` ever see them, an image that claims too many pixels is never decoded,
and whatever a decoder does with a broken file ends in one `DecodeError`.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Literal

from PIL import Image, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
"""Pillow's names of the decoders that may run. A JPEG of several pictures comes out as MPO."""

MAX_PIXELS = 178_956_970
"""Pillow's own ceiling against decompression bombs, above which no ``max_pixels`` reaches."""

Refusal = Literal["empty", "unreadable", "truncated", "too_large"]

_ORIENTATION = 0x0112
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
        reason = f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
        raise DecodeError("unreadable", reason) from error
    except Image.DecompressionBombError as error:
        raise DecodeError("too_large", f"claims more than {MAX_PIXELS:,} pixels") from error
    except MemoryError as error:
        raise DecodeError("too_large", "does not fit into memory") from error
    except Exception as error:  # whatever a decoder raises, the file is the cause
        raise DecodeError(_status(data, error), _one_line(error)) from error


def _decode(data: bytes, max_pixels: int) -> Decoded:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise DecodeError(
                "too_large", f"claims {width:,} × {height:,} pixels, above {max_pixels:,}"
            )
        file_format = image.format or "unknown"
        frames = int(getattr(image, "n_frames", 1))
        orientation = _orientation(image)  # before loading: a loaded TIFF has turned itself
        image.load()
        upright = image.copy() if file_format == "TIFF" else _upright(image, orientation)
    return Decoded(upright, file_format, frames, orientation)


def _orientation(image: Image.Image) -> int | None:
    try:
        value = image.getexif().get(_ORIENTATION)
    except _BROKEN_EXIF:
        return None  # the pixels may be fine all the same
    return value if isinstance(value, int) and 1 <= value <= 8 else None


def _upright(image: Image.Image, orientation: int | None) -> Image.Image:
    """``image`` turned as EXIF asks, free of its file."""
    turn = _UPRIGHT.get(orientation or 1)
    return image.transpose(turn) if turn is not None else image.copy()


def _status(data: bytes, error: Exception) -> Refusal:
    if isinstance(error, EOFError) or "truncated" in str(error).lower():
        return "truncated"
    if data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        return "truncated"  # Pillow's WebP decoder does not say why it failed
    return "unreadable"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
