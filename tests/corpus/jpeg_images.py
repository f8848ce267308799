"""JPEG files, sound, odd and broken."""

from __future__ import annotations

from tests.corpus.image_case import ImageCase, patched
from tests.images import encoded, picture, with_orientation


def _segment(data: bytes, marker: bytes) -> int:
    """Where the body of the first segment ``marker`` begins, after its length."""
    return data.index(marker) + 4


_JPEG = encoded(picture(20, mode="RGB", size=(120, 80)), "JPEG")
_PROGRESSIVE = encoded(picture(21, mode="RGB", size=(120, 80)), "JPEG", progressive=True)
_SOF, _SOF_PROGRESSIVE = b"\xff\xc0", b"\xff\xc2"
_DHT, _SOS = b"\xff\xc4", b"\xff\xda"


def _of_two_pictures() -> bytes:
    return encoded(
        picture(22, mode="RGB"), "MPO", save_all=True, append_images=[picture(23, mode="RGB")]
    )


JPEG_CASES = (
    ImageCase("colour.jpg", _JPEG, columns={"format": "JPEG", "mode": "RGB", "bits": 8}),
    ImageCase("grey.jpeg", encoded(picture(24), "JPEG"), columns={"mode": "L", "magic": "JPEG"}),
    ImageCase("progressive.jpg", _PROGRESSIVE, columns={"mode": "RGB"}),
    ImageCase("cmyk.jpg", encoded(picture(25, mode="CMYK"), "JPEG"), columns={"mode": "CMYK"}),
    ImageCase(
        "two_pictures.jpg",
        _of_two_pictures(),
        columns={"format": "MPO", "frames": 2, "magic": "JPEG"},
    ),
    ImageCase("start_only.jpg", _JPEG[:2], "unreadable"),
    ImageCase("cut_in_header.jpg", _JPEG[:12], "truncated", {"magic": "JPEG"}),
    ImageCase("cut_before_data.jpg", _JPEG[: _segment(_JPEG, _SOS) + 8], "truncated"),
    ImageCase("cut_half.jpg", _JPEG[: len(_JPEG) // 2], "truncated"),
    ImageCase("cut_late.jpg", _JPEG[:-30], "truncated"),
    ImageCase("without_end.jpg", _JPEG[:-2], "truncated"),
    ImageCase("progressive_cut.jpg", _PROGRESSIVE[: len(_PROGRESSIVE) * 2 // 3], "truncated"),
    ImageCase("junk_after_end.jpg", _JPEG + b"junk" * 100),
    ImageCase(
        "broken_huffman_table.jpg",
        patched(_JPEG, _segment(_JPEG, _DHT) + 1, b"\xff" * 16),
        "unreadable",
    ),
    ImageCase("twelve_bits.jpg", patched(_JPEG, _segment(_JPEG, _SOF), b"\x0c"), "unreadable"),
    ImageCase("lossless_claim.jpg", _JPEG.replace(_SOF, b"\xff\xc3", 1), "unreadable"),
    ImageCase("no_height.jpg", patched(_JPEG, _segment(_JPEG, _SOF) + 1, b"\0\0"), "unreadable"),
    ImageCase(
        "huge_claim.jpg",
        patched(_JPEG, _segment(_JPEG, _SOF) + 1, b"\xff\xdc\xff\xdc"),
        "too_large",
    ),
    ImageCase(
        "five_channels.jpg", patched(_JPEG, _segment(_JPEG, _SOF) + 5, b"\x05"), "unreadable"
    ),
    ImageCase("exif_of_junk.jpg", encoded(picture(26), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff")),
    ImageCase(
        "profile_of_junk.jpg",
        encoded(picture(27), "JPEG", icc_profile=b"no profile" * 20),
    ),
    *(
        ImageCase(
            f"orientation_{value}.jpg",
            with_orientation(picture(28, size=(60, 20)), value, "JPEG"),
            columns={
                "exif_orientation": value if value <= 8 else None,
                "width": 20 if 5 <= value <= 8 else 60,
                "height": 60 if 5 <= value <= 8 else 20,
            },
        )
        for value in range(1, 10)
    ),
)
