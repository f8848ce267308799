"""Checks of the files themselves: can they be read, and are they what they claim to be?"""

from __future__ import annotations

from typing import Literal

import pandas as pd

from pipeline.data.validation.check import Check

SUFFIXES = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo", ".jpg", ".jpeg"),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
}
"""The extensions, in small letters, under which each format is known."""


def _misnamed(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    """What is inside, where the name says something else; null where the two agree."""
    pairs = manifest["magic"] + manifest["extension"].fillna("")
    honest = {form + suffix for form, suffixes in SUFFIXES.items() for suffix in suffixes}
    known = manifest["magic"].isin(list(SUFFIXES))
    return manifest["magic"].where(known & ~pairs.isin(honest))


def _status(
    status: Literal["missing", "empty", "truncated", "too_large", "crashed", "timeout"],
    reason: str,
    remedy: str,
) -> Check:
    return Check(
        name=status,
        level="row",
        severity="critical",
        column="status",
        expectation="expect_column_values_to_not_be_in_set",
        arguments=lambda _: {"value_set": (status,)},
        reason=reason,
        remedy=remedy,
        detail="error",
        fixed=True,
        counterexample={"status": [status], "error": ["what the scan found"]},
    )


_ONE_STATUS = (
    _status(
        "missing",
        "metadata.csv lists it, but the file is not there",
        "Bring the file back, or take its row out of the source's table.",
    ),
    _status(
        "empty",
        "the file has no bytes",
        "Copy it anew from where it came from, or take it out of the source.",
    ),
    _status(
        "truncated",
        "the image is cut short",
        "Copy it anew from where it came from, or take it out of the source.",
    ),
    _status(
        "too_large",
        "it is too large to be decoded, as a decompression bomb would be",
        "Scale it down, or raise scan.max_pixels or scan.max_bytes if you trust it.",
    ),
    _status(
        "crashed",
        "decoding it ended the process that did",
        "Do not trust this file; save it anew with an image editor, or take it out of the source.",
    ),
    _status(
        "timeout",
        "decoding it took too long",
        "Save it anew with an image editor, or take it out of the source.",
    ),
)

FILES: tuple[Check, ...] = (
    Check(
        name="unlisted",
        level="row",
        severity="warning",
        column="status",
        expectation="expect_column_values_to_not_be_in_set",
        arguments=lambda _: {"value_set": ("unlisted",)},
        reason="the file lies in data/images, but metadata.csv does not list it",
        remedy="List it with its label, or delete it; until then it is left out.",
        counterexample={"status": ["unlisted"]},
    ),
    *_ONE_STATUS,
    Check(
        name="unreadable",
        level="row",
        severity="critical",
        column="status",
        expectation="expect_column_values_to_be_in_set",
        # Whatever is none of the others': a status that nobody has heard of is no pass.
        arguments=lambda _: {"value_set": ("ok", "unlisted", *(c.name for c in _ONE_STATUS))},
        reason="the image cannot be read",
        remedy="Replace the file by a whole one, or take it out of the source.",
        detail="error",
        fixed=True,
        counterexample={"status": ["unreadable"], "error": ["broken data stream"]},
    ),
    Check(
        name="misnamed",
        level="row",
        severity="warning",
        column="misnamed",
        expectation="expect_column_values_to_be_null",
        arguments=lambda _: {},
        reason="its extension is not that of the format inside",
        remedy="Rename it at its source; here it is read by its content, whatever its name.",
        derive=_misnamed,
        detail="misnamed",
        counterexample={"magic": ["JPEG"], "extension": [".png"]},
    ),
)
