"""Where a model is worse than elsewhere: its metrics for each value of each extra column.

A slice is compared with all other images (Fisher's exact test of its mistakes), and as there are
many slices, the p-values are corrected by Holm's method.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import Interval, Resampling, bootstrap
from pipeline.evaluation.significance import fewer_right, holm
from pipeline.vision.metrics import METRICS, Floats, Sample, finite

MAX_VALUES = 20
"""Text columns with more distinct values are identifiers rather than kinds of images."""
MAX_NUMBERS = 10
"""Number columns with more distinct values are cut into quarters."""
MIN_IMAGES = 10
"""On fewer images a bootstrap interval is too short to be believed, and no slice is tested."""

_LONG = 1e20
"""Whole numbers from here on are written as powers of ten; a 64-bit integer never is."""

SLICE_METRICS = {name: METRICS[name] for name in ("accuracy", "balanced_accuracy", "auroc")}


@dataclass(frozen=True)
class Slice:
    """The images with one value, or in one range of values, of a column."""

    column: str
    value: str
    images: int
    accuracy: Interval
    balanced_accuracy: Interval
    auroc: Interval
    p_value: float | None
    """That it is right as often as the other images, corrected; ``None`` if not tested."""
    worse: bool
    """The p-value is below 1 minus the confidence of the intervals."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Slices:
    found: tuple[Slice, ...]
    notes: tuple[str, ...]
    """Which columns were left out, and why."""

    @property
    def lowest(self) -> Slice | None:
        """The slice of the lowest accuracy: of those that are worse, else of those large enough."""
        judged = [s for s in self.found if s.worse] or [
            s for s in self.found if s.images >= MIN_IMAGES
        ]
        return min(judged, key=lambda s: s.accuracy.value or 0.0, default=None)


def slice_by(
    table: pd.DataFrame, sample: Sample, columns: Iterable[str], resampling: Resampling
) -> Slices:
    """Measure ``sample`` for each value of ``columns`` of ``table``, whose rows are its images."""
    found: list[Slice] = []
    notes: list[str] = []
    for column in columns:
        parts, note = _parts(table[column])
        if note:
            notes.append(f"{column}: {note}")
        for value, mask in parts:
            if mask.any():
                found.append(_measure(column, value, sample, mask, resampling))
    return Slices(tuple(_corrected(found, 1.0 - resampling.confidence)), tuple(notes))


def _measure(
    column: str, value: str, sample: Sample, mask: NDArray[np.bool_], resampling: Resampling
) -> Slice:
    part = sample[mask]
    others = len(sample) - len(part)
    p_value = None
    if len(part) >= MIN_IMAGES and others:
        right = int(part.correct.sum())
        others_right = int(sample.correct.sum()) - right
        p_value = fewer_right(right, len(part), others_right, others)
    measured = bootstrap(part, SLICE_METRICS, resampling)
    return Slice(column, value, len(part), **measured, p_value=p_value, worse=False)


def _corrected(found: list[Slice], level: float) -> list[Slice]:
    """With p-values that allow for how many slices were tested."""
    tested = [i for i, each in enumerate(found) if each.p_value is not None]
    p_values = holm([found[i].p_value or 0.0 for i in tested])
    for i, p_value in zip(tested, p_values, strict=True):
        found[i] = replace(found[i], p_value=finite(p_value), worse=bool(p_value < level))
    return found


def _parts(column: pd.Series[Any]) -> tuple[list[tuple[str, NDArray[np.bool_]]], str]:
    """Names and masks of the slices by ``column``, or why it makes none."""
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    missing = column.isna().to_numpy(bool)
    if not numeric:
        column = column.map(str, na_action="ignore")
    different = column.nunique()
    if different + missing.any() < 2:
        return [], "left out, the same for all images"
    if numeric and different > MAX_NUMBERS:
        parts = _quarters(column.to_numpy(np.float64, na_value=np.nan))
    elif different > MAX_VALUES:
        return [], f"left out, {different} different values are too many to compare"
    else:
        values = sorted(column.dropna().unique())
        parts = [
            (name, (column == value).to_numpy(bool, na_value=False))
            for name, value in zip(_names(values) if numeric else values, values, strict=True)
        ]
    return [*parts, ("(missing)", missing)], ""


def _quarters(values: Floats) -> list[tuple[str, NDArray[np.bool_]]]:
    """Ranges that hold a quarter of the finite values each, as far as equal values allow, between
    the infinite ones."""
    edges = np.unique(np.quantile(values[np.isfinite(values)], [0, 0.25, 0.5, 0.75, 1])).tolist()
    digits = 3
    while len({f"{edge:.{digits}g}" for edge in edges}) < len(edges):
        digits += 1
    parts = []
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        above = values >= low if i == 0 else values > low
        parts.append((f"{low:.{digits}g} to {high:.{digits}g}", above & (values <= high)))
    return [("-inf", values == -np.inf), *parts, ("inf", values == np.inf)]


def _names(numbers: list[Any]) -> list[str]:
    """Whole numbers as they are, others with as many digits as tell all of them apart."""
    digits = 4
    while True:
        names = [
            str(int(n)) if float(n).is_integer() and abs(n) < _LONG else f"{n:.{digits}g}"
            for n in numbers
        ]
        if len(set(names)) == len(names):
            return names
        digits += 1
