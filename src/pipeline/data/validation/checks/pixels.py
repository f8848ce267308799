"""Checks of what is in an image: its format, its kind of pixels, its size and its light."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from pipeline.data.validation.check import Check
from pipeline.params import ValidationParams

Arguments = Callable[[ValidationParams], Mapping[str, float]]

MODES = {
    "1": "1-bit black and white",
    "P": "palette",
    "PA": "palette with transparency",
    "LA": "grey with transparency",
    "La": "grey with transparency",
    "RGBA": "colour with transparency",
    "RGBa": "colour with transparency",
    "CMYK": "the inks of a printer",
    "YCbCr": "brightness and two colour differences",
    "LAB": "lightness and two colour axes",
    "HSV": "hue, saturation and value",
    "I": "32-bit whole numbers",
    "F": "floating point",
    "I;16": "16-bit grey",
    "I;16L": "16-bit grey",
    "I;16B": "16-bit grey",
    "I;16N": "16-bit grey",
}
"""Pillow's pixel modes beside the plain L and RGB, in words."""

_WIDE = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""Modes of more than 8 bits a channel, which the check `mode` allows or not."""

_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")


def _mode_in_words(mode: str) -> str:
    return f"{mode}: {MODES[mode]}" if mode in MODES else mode


def _format_in_words(name: str) -> str:
    return "MPO: several pictures in one JPEG" if name == "MPO" else name


def _hidden_alpha(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return manifest["alpha"].where(~manifest["mode"].isin(_ALPHA), 0)


def _lost_bits(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return manifest["bits"].where(~manifest["mode"].isin(_WIDE), 8)


def _frames(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return manifest["frames"].where(manifest["format"] != "MPO", 1)  # judged by its format


def _shorter_side(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return manifest[["width", "height"]].min(axis=1)


def _longer_side(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return manifest[["width", "height"]].max(axis=1)


def _aspect_ratio(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return _longer_side(manifest, None) / _shorter_side(manifest, None)


def _at_least(bound: str) -> Arguments:
    return lambda params: {"min_value": getattr(params, bound)}


def _at_most(bound: str) -> Arguments:
    return lambda params: {"max_value": getattr(params, bound)}


def _tone(
    name: str, column: str, arguments: Arguments, reason: str, remedy: str, counterexample: float
) -> Check:
    return Check(
        name=name,
        level="row",
        severity="warning",
        column=column,
        expectation="expect_column_values_to_be_between",
        arguments=arguments,
        reason=reason,
        remedy=remedy,
        detail=column,
        counterexample={column: [counterexample]},
    )


_KIND: tuple[Check, ...] = (
    Check(
        name="format",
        level="row",
        severity="critical",
        column="format",
        expectation="expect_column_values_to_be_in_set",
        arguments=lambda params: {"value_set": params.formats},
        reason="its file format is not allowed",
        remedy="Convert it to one of validation.formats, or add its format there.",
        detail="format",
        wording=_format_in_words,
        counterexample={"format": ["GIF"]},
    ),
    Check(
        name="mode",
        level="row",
        severity="critical",
        column="mode",
        expectation="expect_column_values_to_be_in_set",
        arguments=lambda params: {"value_set": params.modes},
        reason="its pixel mode is not allowed",
        remedy="Convert it to one of validation.modes, or add its mode there.",
        detail="mode",
        wording=_mode_in_words,
        counterexample={"mode": ["CMYK"]},
    ),
    Check(
        name="transparency",
        level="row",
        severity="critical",
        column="hidden_alpha",
        expectation="expect_column_values_to_be_in_set",
        arguments=lambda _: {"value_set": (0,)},
        reason="it has transparent parts, which its pixel mode does not carry",
        remedy="Put it on a plain background; what shows through would be left to chance.",
        derive=_hidden_alpha,
        detail="mode",
        wording=lambda mode: f"{_mode_in_words(mode)} with a transparent colour",
        counterexample={"mode": ["P"], "alpha": [1]},
    ),
    Check(
        name="bit_depth",
        level="row",
        severity="critical",
        column="lost_bits",
        expectation="expect_column_values_to_be_between",
        arguments=lambda _: {"max_value": 8},
        reason="it is stored with more than the 8 bits a channel that reading it keeps",
        remedy="Convert it to 8 bits a channel, with a scale that suits it.",
        derive=_lost_bits,
        detail="bits",
        wording=lambda bits: f"{bits:.0f}-bit",
        counterexample={"mode": ["RGB"], "bits": [16]},
    ),
    Check(
        name="several_frames",
        level="row",
        severity="critical",
        column="single_frames",
        expectation="expect_column_values_to_be_between",
        arguments=lambda _: {"max_value": 1},
        reason="it is animated or of several pages, of which only the first would be used",
        remedy="Save each frame or page that shows something as an image of its own.",
        derive=_frames,
        detail="frames",
        wording=lambda frames: f"{frames:.0f} frames",
        counterexample={"frames": [3]},
    ),
)

_SIZE: tuple[Check, ...] = (
    Check(
        name="min_side",
        level="row",
        severity="critical",
        column="shorter_side",
        expectation="expect_column_values_to_be_between",
        arguments=_at_least("min_side"),
        reason="its shorter side has too few pixels",
        remedy="Use the image at its original size, or lower validation.min_side.",
        derive=_shorter_side,
        detail="shorter_side",
        counterexample={"width": [7]},
    ),
    Check(
        name="max_side",
        level="row",
        severity="critical",
        column="longer_side",
        expectation="expect_column_values_to_be_between",
        arguments=_at_most("max_side"),
        reason="its longer side has too many pixels",
        remedy="Scale it down, cut it into tiles, or raise validation.max_side.",
        derive=_longer_side,
        detail="longer_side",
        counterexample={"height": [1_000_000]},
    ),
    Check(
        name="aspect_ratio",
        level="row",
        severity="warning",
        column="aspect_ratio",
        expectation="expect_column_values_to_be_between",
        arguments=_at_most("max_aspect_ratio"),
        reason="it is much longer than wide, and would be squeezed into a square",
        remedy="Crop it or cut it into tiles, or raise validation.max_aspect_ratio.",
        derive=_aspect_ratio,
        detail="aspect_ratio",
        wording=lambda ratio: f"{ratio:.1f} to 1",
        counterexample={"width": [900], "height": [40]},
    ),
)

_LIGHT: tuple[Check, ...] = (
    _tone(
        "dark",
        "brightness",
        _at_least("min_brightness"),
        "it is almost black",
        "Expose it longer, or take it out; where it is meant so, lower validation.min_brightness.",
        0.001,
    ),
    _tone(
        "bright",
        "brightness",
        _at_most("max_brightness"),
        "it is almost white",
        "Expose it less, or take it out; where it is meant so, raise validation.max_brightness.",
        0.999,
    ),
    _tone(
        "low_contrast",
        "contrast",
        _at_least("min_contrast"),
        "its greys hardly differ",
        "Look whether it shows anything; where it does, lower validation.min_contrast.",
        0.001,
    ),
    _tone(
        "blurred",
        "sharpness",
        _at_least("min_sharpness"),
        "it is blurred",
        "Take the photograph again; where the images are as soft as this, lower"
        " validation.min_sharpness.",
        0.1,
    ),
    _tone(
        "low_entropy",
        "entropy",
        _at_least("min_entropy"),
        "it carries next to no information",
        "Look whether it shows anything; where it does, lower validation.min_entropy.",
        0.01,
    ),
)

PIXELS: tuple[Check, ...] = (*_KIND, *_SIZE, *_LIGHT)
