"""PNG files, sound, odd and broken."""

from __future__ import annotations

import struct
import zlib

from tests.corpus.image_case import CUT_SHORT, ImageCase
from tests.images import bomb, encoded, picture


def png_chunk(kind: bytes, body: bytes, *, crc: int | None = None) -> bytes:
    check = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


def png(
    *,
    size: tuple[int, int] = (40, 32),
    bits: int = 8,
    colour: int = 0,
    data: bytes | None = None,
    before: bytes = b"",
) -> bytes:
    """A PNG chunk by chunk; ``colour`` is 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    width, height = size
    row = b"\0" + bytes(range(64)) * (width * channels * bits // 8 // 64 + 1)
    rows = row[: 1 + -(-width * channels * bits // 8)] * height
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + before
        + png_chunk(b"IDAT", zlib.compress(rows) if data is None else data)
        + png_chunk(b"IEND", b"")
    )


def _with_bad_crc(data: bytes, kind: bytes) -> bytes:
    """``data`` with a wrong checksum for its first chunk of ``kind``."""
    start = data.index(kind)
    end = start + 4 + struct.unpack(">I", data[start - 4 : start])[0]
    return data[:end] + b"\xde\xad\xbe\xef" + data[end + 4 :]


_GREY_PNG = encoded(picture(1))
_RGB_PNG = encoded(picture(2, mode="RGB"))
_LARGE_PNG = encoded(picture(3, size=(150, 100)))

PNG_CASES = (
    ImageCase("grey.png", _GREY_PNG, columns={"format": "PNG", "mode": "L", "bits": 8, "alpha": 0}),
    ImageCase("colour.png", _RGB_PNG, columns={"mode": "RGB", "bits": 8, "alpha": 0}),
    ImageCase("alpha.png", encoded(picture(4, mode="RGBA")), columns={"mode": "RGBA", "alpha": 1}),
    ImageCase("grey_alpha.png", encoded(picture(5, mode="LA")), columns={"mode": "LA", "alpha": 1}),
    ImageCase(
        "palette.png", encoded(picture(6, mode="P")), columns={"mode": "P", "bits": 8, "alpha": 0}
    ),
    ImageCase(
        "palette_clear.png",
        encoded(picture(7, mode="P"), transparency=3),
        columns={"mode": "P", "alpha": 1},
    ),
    ImageCase(
        "grey_with_clear_level.png",
        encoded(picture(8), transparency=3),
        columns={"mode": "L", "alpha": 1},
    ),
    ImageCase("one_bit.png", encoded(picture(9, mode="1")), columns={"mode": "1", "bits": 1}),
    ImageCase("two_bits.png", png(bits=2), columns={"mode": "L", "bits": 2}),
    ImageCase(
        "four_bit_palette.png",
        png(bits=4, colour=3, before=png_chunk(b"PLTE", bytes(range(48)))),
        columns={"mode": "P", "bits": 8},
    ),
    ImageCase("sixteen_bits.png", png(bits=16), columns={"mode": "I;16", "bits": 16}),
    ImageCase(
        "sixteen_bit_colour.png", png(bits=16, colour=2), columns={"mode": "RGB", "bits": 16}
    ),
    ImageCase(
        "animated.png",
        encoded(picture(10), save_all=True, append_images=[picture(11), picture(12)]),
        columns={"format": "PNG", "frames": 3},
    ),
    ImageCase("signature_only.png", _GREY_PNG[:8], "unreadable", {"magic": "PNG"}, CUT_SHORT),
    ImageCase("cut_in_header.png", _GREY_PNG[:20], "truncated", {"magic": "PNG"}),
    ImageCase("cut_before_data.png", _GREY_PNG[:33], "unreadable", error=CUT_SHORT),
    ImageCase("cut_early.png", _LARGE_PNG[:60], "truncated"),
    ImageCase("cut_half.png", _LARGE_PNG[: len(_LARGE_PNG) // 2], "truncated", {"width": None}),
    ImageCase("cut_late.png", _LARGE_PNG[:-40], "truncated"),
    ImageCase("without_end.png", _LARGE_PNG[:-12]),
    ImageCase("junk_after_end.png", _GREY_PNG + b"junk" * 100),
    ImageCase("bad_header_crc.png", _with_bad_crc(_GREY_PNG, b"IHDR"), "unreadable"),
    ImageCase(
        "bad_data_crc.png", _with_bad_crc(_LARGE_PNG, b"IDAT"), "unreadable", error="checksum"
    ),
    ImageCase("broken_stream.png", png(data=b"\x78\x9c" + b"\xff" * 60), "unreadable"),
    ImageCase("short_stream.png", png(data=zlib.compress(bytes(100))), "truncated"),
    ImageCase("long_stream.png", png(data=zlib.compress(bytes(5_000_000)))),
    ImageCase("huge_claim.png", bomb(), "too_large"),
    ImageCase("above_the_cap.png", bomb(400, 300), "too_large", error="above 100,000"),
    ImageCase("no_width.png", png(size=(0, 32)), "unreadable"),
    ImageCase("unknown_colour_type.png", png(colour=5), "unreadable"),
    ImageCase("palette_missing.png", png(colour=3), "unreadable", error="without its palette"),
    ImageCase(
        "text_bomb.png",
        png(before=png_chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(80_000_000)))),
        "unreadable",
    ),
    ImageCase(
        "profile_of_junk.png", png(before=png_chunk(b"iCCP", b"p\0\0" + zlib.compress(b"junk" * 9)))
    ),
)
