"""GIF, WebP, TIFF, BMP and PPM files, sound, odd and broken."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image

from tests.corpus.image_case import CUT_SHORT, ImageCase, patched
from tests.images import encoded, picture, with_orientation

_GIF = encoded(picture(30, mode="P", size=(120, 80)), "GIF")
_WEBP = encoded(picture(31, mode="RGB", size=(120, 80)), "WEBP")


def _half_clear() -> Image.Image:
    image = picture(35, mode="RGB")
    image.putalpha(128)
    return image


def _animation(file_format: str, mode: str) -> bytes:
    frames = [picture(seed, mode=mode) for seed in (32, 33, 34)]
    return encoded(frames[0], file_format, save_all=True, append_images=frames[1:])


GIF_AND_WEBP_CASES = (
    ImageCase("palette.gif", _GIF, columns={"format": "GIF", "mode": "P", "bits": 8}),
    ImageCase("animated.gif", _animation("GIF", "P"), columns={"frames": 3}),
    ImageCase("header_only.gif", _GIF[:13], "unreadable", {"magic": "GIF"}, CUT_SHORT),
    ImageCase("cut_half.gif", _GIF[: len(_GIF) // 2], "truncated"),
    ImageCase("screen_of_no_width.gif", patched(_GIF, 6, b"\0\0"), columns={"width": 120}),
    ImageCase("broken_lzw.gif", patched(_GIF, len(_GIF) // 2, b"\xff" * 600), "unreadable"),
    ImageCase("colour.webp", _WEBP, columns={"format": "WEBP", "mode": "RGB", "magic": "WEBP"}),
    ImageCase(
        "lossless_alpha.webp",
        encoded(_half_clear(), "WEBP", lossless=True),
        columns={"mode": "RGBA", "alpha": 1},
    ),
    ImageCase("animated.webp", _animation("WEBP", "RGB"), columns={"frames": 3}),
    ImageCase("header_only.webp", _WEBP[:16], "truncated"),
    ImageCase("cut_half.webp", _WEBP[: len(_WEBP) // 2], "truncated"),
    ImageCase("broken.webp", patched(_WEBP, 30, b"\xff" * 200), "unreadable"),
)


# TIFF.


def _floats() -> Image.Image:
    return Image.fromarray(np.linspace(0, 1, 1280, dtype=np.float32).reshape(32, 40))


def _sixteen_bits() -> Image.Image:
    return Image.fromarray(np.arange(1280, dtype=np.uint16).reshape(32, 40) * 50)


def _whole_numbers() -> Image.Image:
    return Image.fromarray(np.arange(1280, dtype=np.int32).reshape(32, 40))


def _tag(data: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF with the first value of ``tag`` changed."""
    place = data.index(struct.pack("<H", tag), struct.unpack_from("<I", data, 4)[0])
    return patched(data, place + 8, struct.pack("<I", value))


def _in_a_loop(data: bytes) -> bytes:
    """A little-endian TIFF whose only directory is its own successor."""
    start = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, start)[0]
    return patched(data, start + 2 + 12 * entries, struct.pack("<I", start))


_TIFF = encoded(picture(40, size=(120, 80)), "TIFF")
_LZW = encoded(picture(41, size=(120, 80)), "TIFF", compression="tiff_lzw")

TIFF_CASES = (
    ImageCase("grey.tif", _TIFF, columns={"format": "TIFF", "mode": "L", "bits": 8}),
    ImageCase("lzw.tiff", _LZW, columns={"mode": "L"}),
    ImageCase("one_bit.tif", encoded(picture(42, mode="1"), "TIFF"), columns={"bits": 1}),
    ImageCase(
        "sixteen_bits.tif", encoded(_sixteen_bits(), "TIFF"), columns={"mode": "I;16", "bits": 16}
    ),
    ImageCase(
        "whole_numbers.tif", encoded(_whole_numbers(), "TIFF"), columns={"mode": "I", "bits": 32}
    ),
    ImageCase("floats.tif", encoded(_floats(), "TIFF"), columns={"mode": "F", "bits": 32}),
    ImageCase("cmyk.tif", encoded(picture(43, mode="CMYK"), "TIFF"), columns={"mode": "CMYK"}),
    ImageCase(
        "pages.tif",
        encoded(picture(44), "TIFF", save_all=True, append_images=[picture(45)]),
        columns={"frames": 2},
    ),
    ImageCase(
        "orientation_6.tif",
        with_orientation(picture(46, size=(60, 20)), 6, "TIFF"),
        columns={"exif_orientation": 6, "width": 20, "height": 60},
    ),
    ImageCase("header_only.tif", _TIFF[:8], "unreadable", {"magic": "TIFF"}),
    ImageCase("cut_half.tif", _TIFF[: len(_TIFF) // 2], "truncated"),
    ImageCase("directory_loop.tif", _in_a_loop(_TIFF), columns={"frames": 1}),
    ImageCase("directory_outside.tif", patched(_TIFF, 4, struct.pack("<I", 99_999)), "unreadable"),
    ImageCase("broken_lzw.tif", patched(_LZW, 200, b"\xff" * 800), "unreadable"),
    ImageCase("huge_claim.tif", _tag(_tag(_TIFF, 256, 99_000), 257, 99_000), "too_large"),
    ImageCase("no_width.tif", _tag(_TIFF, 256, 0), "unreadable"),
    ImageCase("unknown_compression.tif", _tag(_TIFF, 259, 4711), "unreadable"),
    ImageCase("data_outside.tif", _tag(_TIFF, 273, 9_999_999), "truncated"),
)


# BMP, PPM.

_BMP = encoded(picture(50, mode="RGB"), "BMP")

BMP_AND_PPM_CASES = (
    ImageCase("colour.bmp", _BMP, columns={"format": "BMP", "mode": "RGB", "magic": "BMP"}),
    ImageCase("one_bit.bmp", encoded(picture(51, mode="1"), "BMP"), columns={"mode": "1"}),
    ImageCase("palette.bmp", encoded(picture(52, mode="P"), "BMP"), columns={"mode": "P"}),
    ImageCase("upside_down.bmp", patched(_BMP, 22, struct.pack("<i", -32)), columns={"height": 32}),
    ImageCase("negative_width.bmp", patched(_BMP, 18, struct.pack("<i", -40)), "too_large"),
    ImageCase("huge_claim.bmp", patched(_BMP, 18, struct.pack("<ii", 99_000, 99_000)), "too_large"),
    ImageCase("header_only.bmp", _BMP[:20], "truncated"),
    ImageCase("cut_half.bmp", _BMP[: len(_BMP) // 2], "truncated"),
    ImageCase("unknown_compression.bmp", patched(_BMP, 30, b"\x63\0\0\0"), "unreadable"),
    ImageCase("colour.ppm", encoded(picture(53, mode="RGB"), "PPM"), columns={"magic": "PPM"}),
    ImageCase("bits.pbm", b"P4\n16 8\n" + bytes(16), columns={"mode": "1", "bits": 1}),
    ImageCase("letters.pgm", b"P2\n3 2\n9\n1 2 3 4 5 6\n", columns={"mode": "L", "format": "PPM"}),
    ImageCase("sixteen_bits.pgm", b"P5\n8 4\n65535\n" + bytes(64), columns={"bits": 16}),
    ImageCase("lying.ppm", b"P6\n300 300\n255\n" + bytes(500), "truncated"),
    ImageCase("huge_claim.ppm", b"P6\n99000 99000\n255\n" + bytes(500), "too_large"),
    ImageCase("no_levels.pgm", b"P5\n8 4\n0\n" + bytes(32), "unreadable"),
    ImageCase("header_only.ppm", b"P6\n", "truncated"),
    ImageCase("words.ppm", b"P6\nwide high\n255\n" + bytes(32), "unreadable"),
)
