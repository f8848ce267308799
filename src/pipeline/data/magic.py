"""Which format a file's first bytes name, whatever its name says.

The names are Pillow's. Formats that no decoder of the pipeline reads are told too, so that a
refused file can be called by what it is.
"""

from __future__ import annotations

SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (8, b"WEBP", "WEBP"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftypheic", "HEIF"),
    (4, b"ftypheix", "HEIF"),
    (4, b"ftypmif1", "HEIF"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG2000"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"8BPS", "PSD"),
    (0, b"DDS ", "DDS"),
    (0, b"%!PS", "EPS"),
    (0, b"%PDF", "PDF"),
)
"""Offset, bytes there, Pillow's name of the format."""

_WHITESPACE = b" \t\n\r\v\f"


def magic(data: bytes) -> str | None:
    """The format that the first bytes of ``data`` name; ``None`` where they name no known one."""
    for offset, signature, name in SIGNATURES:
        if data.startswith(signature, offset):
            return name
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3] and data[2:3] in _WHITESPACE:
        return "PPM"
    return None
