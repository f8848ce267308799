"""Labels and weights of the images a source lists: by the rules of ``params.yaml``, or as given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pipeline.data.sources import Listing
from pipeline.errors import ConfigurationError, DataRefused, did_you_mean
from pipeline.params import IngestParams, LabelRule, WeightRule

SPLITS = ("train", "val", "test")

_Rule = TypeVar("_Rule", LabelRule, WeightRule)


@dataclass(frozen=True)
class Judged:
    """What is said about each image of a listing, once the rules have spoken."""

    columns: dict[str, list[str]]
    """Those of the listing, with ``label`` as it counts (``""``: none) and ``weight`` only where
    one is not 1."""
    classes: tuple[str, ...]
    """Their order: the rule's, the source's own, or sorted. Names without an image may be in it."""
    notes: tuple[str, ...]
    """By which rules labels and weights came about."""


def judge(listing: Listing, params: IngestParams, *, configured: bool) -> Judged:
    """Apply ``params.label`` and ``params.weight``.

    The rules are about ``ingest.source``, the configured source: there their column must exist,
    and what they say goes before a column ``label`` or ``weight``. For any other source a rule is
    used where its column is there and the plain column is not.

    Raises:
        ConfigurationError: a rule names a column that the configured source lacks.
        DataRefused: there is neither a rule nor a column for the labels, or a value is not what
            its column needs.
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
        if listing.lines is not None:
            notes.append("label: the column label")
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
    return Judged(columns | made, tuple(order), tuple(notes))


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
            f"{listing.where}: no column 'label', only {', '.join(columns)}"
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
