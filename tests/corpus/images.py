"""Image files that are broken, odd or not images at all, each made by code.

A case is a file below one folder; the scan of that folder has to give it the expected status and
the expected values in the columns named. Sizes are small, so that all of them take a second.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tests.corpus.image_case import NO_IMAGE, ImageCase
from tests.corpus.jpeg_images import JPEG_CASES
from tests.corpus.other_images import BMP_AND_PPM_CASES, GIF_AND_WEBP_CASES, TIFF_CASES
from tests.corpus.png_images import PNG_CASES
from tests.images import encoded, picture

MAX_BYTES = 200_000
MAX_PIXELS = 100_000
"""The limits that the expectations are for."""

_PNG = encoded(picture(1))
_JPEG = encoded(picture(20, mode="RGB"), "JPEG")


# What is no image, or not the one its name says.


def _ico() -> bytes:
    return encoded(picture(60, mode="RGB", size=(32, 32)), "ICO")


IMPOSTOR_CASES = (
    ImageCase("empty.png", b"", "empty", {"bytes": 0, "magic": None}),
    ImageCase("one_byte.png", b"\x89", "unreadable", error=NO_IMAGE),
    ImageCase("zeros.jpg", bytes(3_000), "unreadable", {"magic": None}, NO_IMAGE),
    ImageCase("noise.jpg", np.random.default_rng(0).bytes(3_000), "unreadable", error=NO_IMAGE),
    ImageCase("text.png", b"file_name,label\na.png,cat\n", "unreadable", error=NO_IMAGE),
    ImageCase("page.jpg", b"<!doctype html><title>404 Not Found</title>", "unreadable"),
    ImageCase("drawing.jpg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unreadable"),
    ImageCase("pointer.jpg", b"version https://git-lfs.github.com/spec/v1\n", "unreadable"),
    ImageCase("script.png", b"%!PS-Adobe-3.0 EPSF-3.0\n", "unreadable", {"magic": "EPS"}),
    ImageCase("paper.png", b"%PDF-1.7\n" + bytes(90), "unreadable", {"magic": "PDF"}),
    ImageCase("icon.png", _ico(), "unreadable", {"magic": "ICO"}),
    ImageCase(
        "photo.avif", encoded(picture(61, mode="RGB"), "AVIF"), "unreadable", {"magic": "AVIF"}
    ),
    ImageCase("scan.jp2", encoded(picture(62), "JPEG2000"), "unreadable", {"magic": "JPEG2000"}),
    ImageCase("png_as.jpg", _PNG, columns={"extension": ".jpg", "magic": "PNG", "format": "PNG"}),
    ImageCase("jpeg_as.png", _JPEG, columns={"extension": ".png", "magic": "JPEG"}),
    ImageCase("without_extension", _PNG, columns={"extension": "", "magic": "PNG"}),
    ImageCase("LOUD.PNG", _PNG, columns={"extension": ".png"}),
    ImageCase("one_pixel.png", encoded(picture(63, size=(1, 1))), columns={"sharpness": 0.0}),
    ImageCase("a_line.png", encoded(picture(64, size=(5_000, 1))), columns={"height": 1}),
    ImageCase("name with space, ünïcödé 图.png", _PNG),
)


# What the file system holds in a file's place.


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "inner.txt").write_bytes(b"unlisted")


def _dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere.png")


def _own_link(path: Path) -> None:
    path.symlink_to(path)


def _link(path: Path) -> None:
    target = path.parent.parent / "linked.png"
    target.write_bytes(_PNG)
    path.symlink_to(target)


def _forbidden(path: Path) -> None:
    path.write_bytes(_PNG)
    path.chmod(0)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(_PNG)
        file.truncate(1 << 40)


def _missing(path: Path) -> None:
    del path


FILE_SYSTEM_CASES = (
    ImageCase("pipe.png", _fifo, "unreadable", {"bytes": None}, "no file"),
    ImageCase("folder.png", _folder, "unreadable", error="no file"),
    ImageCase("dangling.png", _dangling, "missing"),
    ImageCase("own_link.png", _own_link, "unreadable", error="symbolic links"),
    ImageCase("link.png", _link, columns={"format": "PNG"}),
    ImageCase("sparse.png", _sparse, "too_large", {"bytes": 1 << 40, "sha256": None}, "above"),
    ImageCase("missing.png", _missing, "missing", {"bytes": None}),
    *(
        [ImageCase("forbidden.png", _forbidden, "unreadable", error="denied")]
        if os.geteuid()
        else []  # root may read everything
    ),
)

CASES = (
    *PNG_CASES,
    *JPEG_CASES,
    *GIF_AND_WEBP_CASES,
    *TIFF_CASES,
    *BMP_AND_PPM_CASES,
    *IMPOSTOR_CASES,
    *FILE_SYSTEM_CASES,
)
"""All cases; their names are unique."""
