"""The one layout that every source becomes: ``metadata.csv``, ``classes.json`` and ``images/``.

Equal sources give equal bytes: rows are sorted by ``file_name``, and nothing of the machine or the
moment is written.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.data.sources import Listing
from pipeline.errors import ConfigurationError, DataRefused, did_you_mean
from pipeline.params import IngestParams, LabelRule, WeightRule

IMAGES = "images"
METADATA = "metadata.csv"
CLASSES = "classes.json"
SPLITS = ("train", "val", "test")

_Rule = TypeVar("_Rule", LabelRule, WeightRule)

_LEADING = ("file_name", "label", "weight", "split", "group")


@dataclass(frozen=True)
class Dataset:
    """A version of the data, not yet written."""

    images: dict[str, Path]
    """``file_name`` to where the original bytes lie, sorted."""
    metadata: bytes
    classes: bytes
    counts: dict[str, int]
    """Images per class, in the order of the classes."""
    notes: tuple[str, ...]
    """By which rules labels and weights came about, and what was left out."""


def build_dataset(listing: Listing, params: IngestParams, *, configured: bool) -> Dataset:
    """Give ``listing`` labels, weights and the names of the canonical layout.

    The rules ``params.label`` and ``params.weight`` are about ``ingest.source``, the configured
    source: there their column must exist, and what they say goes before a column ``label`` or
    ``weight``. For any other source a rule is used where its column is there and the plain column
    is not.

    Raises:
        ConfigurationError: a rule names a column that the configured source lacks.
        DataRefused: there is neither a rule nor a column for the labels, a value is not what its
            column needs, there are fewer than two classes, or one without images.
    """
    notes = [f"read: {listing.origin}"]
    columns = dict(listing.columns)
    label_rule = _applicable(params.label, "label", listing, configured)
    weight_rule = _applicable(params.weight, "weight", listing, configured)
    _keep_raw(columns, label_rule, weight_rule)
    made: dict[str, list[str]] = {}
    if label_rule:
        made["label"] = _labels_by_rule(listing, label_rule)
        order: Sequence[str] = label_rule.classes
        notes.append(
            f"label: '{order[1]}' where {label_rule.column} is at least {label_rule.at_least:g},"
            f" else '{order[0]}' (ingest.label)"
        )
    else:
        made["label"] = _plain_labels(listing)
        order = listing.classes or sorted({label for label in made["label"] if label})
        notes.append(f"label: {'the folder' if listing.lines is None else 'the column label'}")
    if weight_rule:
        made["weight"] = _weights_by_rule(listing, weight_rule)
        notes.append(f"weight: from {weight_rule.column} (ingest.weight)")
    elif "weight" in columns:
        made["weight"] = _plain_weights(listing)
        notes.append("weight: the column weight")
    if not any(float(value) != 1.0 for value in made.get("weight", [])):
        made.pop("weight", None)
        columns.pop("weight", None)
    _check_splits(listing)
    columns["file_name"] = _canonical_names(listing.columns["file_name"])
    columns |= made
    notes += [f"left out: {why} ({count:,})" for why, count in sorted(listing.skipped.items())]
    return Dataset(
        images=_images(listing, columns["file_name"]),
        metadata=_metadata(columns),
        classes=classes_text(order).encode(),
        counts=_counts(listing, made["label"], order),
        notes=tuple(notes),
    )


def classes_text(classes: Sequence[str]) -> str:
    return json.dumps({"classes": list(classes)}, indent=2, ensure_ascii=False) + "\n"


def _applicable(rule: _Rule | None, made: str, listing: Listing, configured: bool) -> _Rule | None:
    columns = listing.columns
    if rule is None:
        return None
    if configured:
        if rule.column not in columns:
            raise ConfigurationError(
                f"params.yaml: ingest.{made}.column: the source has no column '{rule.column}',"
                f" only {', '.join(columns)}{did_you_mean(rule.column, columns) or ';'}"
                f" null if the source needs no such rule"
            )
        return rule
    return rule if rule.column in columns and made not in columns else None


def _numbers(listing: Listing, column: str) -> list[float]:
    """The column's values; NaN where a cell is empty."""
    numbers = []
    for row, text in enumerate(listing.columns[column]):
        try:
            number = float(text) if text.strip() else math.nan
            if text.strip() and not math.isfinite(number):
                raise ValueError(text)
        except ValueError:
            raise DataRefused(
                f"{listing.place(row)}: {column} '{text}' is not a number; correct it"
            ) from None
        numbers.append(number)
    return numbers


def _labels_by_rule(listing: Listing, rule: LabelRule) -> list[str]:
    return [
        "" if math.isnan(number) else rule.classes[number >= rule.at_least]
        for number in _numbers(listing, rule.column)
    ]


def _plain_labels(listing: Listing) -> list[str]:
    columns = listing.columns
    if "label" not in columns:
        raise DataRefused(
            f"{listing.folder / listing.origin}: no column 'label', only {', '.join(columns)}"
            + (did_you_mean("label", columns) or ";")
            + " name the labels' column so, or make labels from numbers by ingest.label"
        )
    return [label if label.strip() else "" for label in columns["label"]]


def _weights_by_rule(listing: Listing, rule: WeightRule) -> list[str]:
    values, weights = zip(*rule.points, strict=True)
    numbers = np.array(_numbers(listing, rule.column))
    interpolated = np.interp(numbers, values, weights)
    interpolated[np.isnan(numbers)] = 1.0
    return [str(round(float(weight), 6)) for weight in interpolated]


def _plain_weights(listing: Listing) -> list[str]:
    numbers = _numbers(listing, "weight")
    for row, number in enumerate(numbers):
        if number < 0:
            raise DataRefused(f"{listing.place(row)}: weight {number:g} is below 0; correct it")
    return ["1.0" if math.isnan(number) else str(number) for number in numbers]


def _check_splits(listing: Listing) -> None:
    for row, split in enumerate(listing.columns.get("split", [])):
        if split.strip() and split not in SPLITS:
            raise DataRefused(
                f"{listing.place(row)}: split '{split}' is not one of {', '.join(SPLITS)}"
                f"{did_you_mean(split, SPLITS) or ';'} leave it empty where the pipeline shall"
                " choose"
            )


def _keep_raw(columns: dict[str, list[str]], *rules: LabelRule | WeightRule | None) -> None:
    """Numbers that a rule reads from a column of the very name it makes stay, as ``…_value``."""
    for rule in rules:
        if rule and rule.column in {"label", "weight"} and rule.column in columns:
            columns.setdefault(f"{rule.column}_value", columns[rule.column])


def _canonical_names(names: Sequence[str]) -> list[str]:
    """All below ``images/``, where a source that has that very folder keeps its names."""
    prefix = "" if all(name.startswith(f"{IMAGES}/") for name in names) else f"{IMAGES}/"
    return [prefix + name for name in names]


def _images(listing: Listing, names: Sequence[str]) -> dict[str, Path]:
    pairs = zip(names, listing.columns["file_name"], strict=True)
    return {name: listing.folder / original for name, original in sorted(pairs)}


def _metadata(columns: dict[str, list[str]]) -> bytes:
    header = [name for name in _LEADING if name in columns]
    header += [name for name in columns if name not in _LEADING]
    rows = sorted(zip(*(columns[name] for name in header), strict=True))
    return "".join(",".join(map(_cell, row)) + "\n" for row in [header, *rows]).encode()


def _cell(value: str) -> str:
    """Quoted where need be: not by the csv module, whose choice differs between Pythons."""
    if any(mark in value for mark in ',"\r\n'):
        return '"' + value.replace('"', '""') + '"'
    return value


def _counts(listing: Listing, labels: Sequence[str], order: Sequence[str]) -> dict[str, int]:
    counted = Counter(labels)
    where = listing.folder / listing.origin if listing.lines is not None else listing.folder
    unknown = sorted(set(counted) - set(order) - {""})
    if unknown:
        raise DataRefused(
            f"{where}: the label '{unknown[0]}' is not in the {CLASSES} beside it"
            f"{did_you_mean(unknown[0], order) or ';'} correct the label, or add the class"
            " at the end of that list"
        )
    empty = [name for name in order if not counted[name]]
    if len(set(order)) != len(order) or len(order) < 2 or len(order) - len(empty) < 2:
        only = f"only '{next(iter(set(counted) - {''}))}'" if set(counted) - {""} else "none"
        raise DataRefused(f"{where}: at least two classes are needed, found {only}; add another")
    if empty:
        raise DataRefused(
            f"{where}: no image of the class '{empty[0]}'; add some, or take it out of {CLASSES}"
        )
    return {name: counted[name] for name in order}
