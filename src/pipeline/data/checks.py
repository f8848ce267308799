"""What is asked of the data. A new check is one more entry in `CHECKS`, and nothing else.

Each check is a Great Expectations expectation on one column of the manifest, or on a column derived
from it here. Row checks judge every image; those that fail a critical one are set aside. Dataset
checks judge what is left; a critical one that fails stops the run.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pandas as pd

from pipeline.data.check import Check, Level
from pipeline.data.manifest import SPLIT_NAMES, split_of
from pipeline.params import ValidationParams

CLASSES = MappingProxyType({"$PARAMETER": "classes"})
"""Stands for the names in ``data/classes.json``, which Great Expectations fills in."""


def suite(level: Level, params: ValidationParams, group: str | None) -> dict[str, Any]:
    """The checks of ``level`` as a suite of Great Expectations."""
    return {
        "name": level,
        "expectations": [
            check.configuration(params)
            for check in CHECKS
            if check.level == level and check.applies(group)
        ],
        "meta": {},
    }


def default_suites(params: ValidationParams) -> str:
    """What ``expectations.json`` holds: the suites of the committed ``params.yaml``, to be read."""
    levels: tuple[Level, ...] = ("row", "dataset")
    return json.dumps([suite(level, params, None) for level in levels], indent=2) + "\n"


def with_derived(manifest: pd.DataFrame, level: Level, group: str | None) -> pd.DataFrame:
    """``manifest`` with the columns that the checks of ``level`` derive."""
    derived = {
        check.column: check.derive(manifest, group)
        for check in CHECKS
        if check.level == level and check.derive is not None and check.applies(group)
    }
    return manifest.assign(**derived)


def _label_if_listed(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return manifest["label"].where(manifest["status"] != "unlisted", "unlisted")


def _shorter_side(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return manifest[["width", "height"]].min(axis=1)


def _longer_side(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return manifest[["width", "height"]].max(axis=1)


def _distinct_in(keys: pd.Series, values: pd.Series) -> pd.Series:
    """For each row, how many different ``values`` the rows of its key have; nulls do not count."""
    return values.groupby(keys).transform("nunique").reindex(values.index).fillna(0)


def _clusters(manifest: pd.DataFrame) -> pd.Series:
    return manifest["duplicate_cluster"].where(manifest["duplicate_cluster"] >= 0)


def _labels_in_cluster(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return _distinct_in(_clusters(manifest), manifest["label"])


def _given_splits(manifest: pd.DataFrame) -> pd.Series:
    return manifest["split"].map(split_of, na_action="ignore")


def _splits_in_cluster(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return _distinct_in(_clusters(manifest), _given_splits(manifest))


def _splits_in_group(manifest: pd.DataFrame, group: str | None) -> pd.Series:
    return _distinct_in(manifest[group or "group"], _given_splits(manifest))


def _split_name(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return manifest["split"].str.strip().str.lower()


def _spellings(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return _distinct_in(manifest["label"].str.strip().str.casefold(), manifest["label"])


def _images_in_class(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return manifest.groupby("label")["label"].transform("size").reindex(manifest.index)


def _imbalance(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    counts = _images_in_class(manifest, None)
    return counts.max() / counts


CHECKS: tuple[Check, ...] = (
    Check(
        name="listed",
        level="row",
        severity="warning",
        column="status",
        expectation="expect_column_values_to_not_be_in_set",
        arguments=lambda _: {"value_set": ("unlisted",)},
        reason="the file lies in data/images, but metadata.csv does not list it",
        remedy="List it with its label, or delete it; until then it is left out.",
        counterexample={"status": ["unlisted"]},
    ),
    Check(
        name="readable",
        level="row",
        severity="critical",
        column="status",
        expectation="expect_column_values_to_be_in_set",
        arguments=lambda _: {"value_set": ("ok", "unlisted")},
        reason="the image cannot be read",
        remedy="Replace the file by a whole one, or take its row out of the source's table.",
        detail="error",
        counterexample={"status": ["truncated"], "error": ["image file is truncated"]},
    ),
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
        counterexample={"mode": ["CMYK"]},
    ),
    Check(
        name="min_side",
        level="row",
        severity="critical",
        column="shorter_side",
        expectation="expect_column_values_to_be_between",
        arguments=lambda params: {"min_value": params.min_side},
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
        arguments=lambda params: {"max_value": params.max_side},
        reason="its longer side has too many pixels",
        remedy="Scale it down, cut it into tiles, or raise validation.max_side.",
        derive=_longer_side,
        detail="longer_side",
        counterexample={"height": [1_000_000]},
    ),
    Check(
        name="labelled",
        level="row",
        severity="critical",
        column="label_if_listed",
        expectation="expect_column_values_to_not_be_null",
        arguments=lambda _: {},
        reason="it has no label",
        remedy="Give it a label in the source's table, or take its row out.",
        derive=_label_if_listed,
        counterexample={"label": [None]},
    ),
    Check(
        name="known_label",
        level="row",
        severity="critical",
        column="label",
        expectation="expect_column_values_to_be_in_set",
        arguments=lambda _: {"value_set": CLASSES},
        reason="its label is not in data/classes.json",
        remedy="Correct the label, or ingest the source anew so that the label becomes a class.",
        detail="label",
        counterexample={"label": ["dog"]},
    ),
    Check(
        name="trimmed_label",
        level="row",
        severity="warning",
        column="label",
        expectation="expect_column_values_to_not_match_regex",
        arguments=lambda _: {"regex": r"^\s|\s$"},
        reason="its label has blanks around it",
        remedy="Take the blanks away in the source's table.",
        detail="label",
        counterexample={"label": [" cat"]},
    ),
    Check(
        name="one_label_per_picture",
        level="row",
        severity="critical",
        column="labels_in_cluster",
        expectation="expect_column_values_to_be_between",
        arguments=lambda _: {"max_value": 1},
        reason="copies of it, pixel for pixel, have another label",
        remedy="Decide on one label for all copies; until then none of them is used.",
        derive=_labels_in_cluster,
        detail="label",
        counterexample={"duplicate_cluster": [0, 0], "label": ["cat", "owl"]},
    ),
    Check(
        name="several_classes",
        level="dataset",
        severity="critical",
        column="label",
        expectation="expect_column_unique_value_count_to_be_between",
        arguments=lambda _: {"min_value": 2},
        reason="there are fewer than two classes to tell apart",
        remedy="Add images of a second class.",
        counterexample={"label": ["cat", "cat", "cat", "cat"]},
    ),
    Check(
        name="no_empty_class",
        level="dataset",
        severity="critical",
        column="label",
        expectation="expect_column_distinct_values_to_contain_set",
        arguments=lambda _: {"value_set": CLASSES},
        reason="a class of data/classes.json has no image",
        remedy="Add images of it, or ingest the source anew without that class.",
        counterexample={"label": ["cat", "cat", "cat", "cat"]},
    ),
    Check(
        name="images_per_class",
        level="dataset",
        severity="critical",
        column="images_in_class",
        expectation="expect_column_values_to_be_between",
        arguments=lambda params: {"min_value": params.min_images_per_class},
        reason="a class has too few images",
        remedy="Add images of it, or lower validation.min_images_per_class.",
        derive=_images_in_class,
        detail="label",
        counterexample={"label": ["cat", "owl", "cat", "cat"]},
    ),
    Check(
        name="class_balance",
        level="dataset",
        severity="critical",
        column="imbalance",
        expectation="expect_column_values_to_be_between",
        arguments=lambda params: {"max_value": params.max_imbalance},
        reason="the largest class has too many times the images of this one",
        remedy="Add images of the small class, or raise validation.max_imbalance.",
        derive=_imbalance,
        detail="label",
        counterexample={"label": ["cat", "owl", "cat", "cat"]},
    ),
    Check(
        name="distinct_labels",
        level="dataset",
        severity="warning",
        column="spellings",
        expectation="expect_column_values_to_be_between",
        arguments=lambda _: {"max_value": 1},
        reason="labels differ by capitals or blanks alone",
        remedy="Write them alike in the source's table, unless they mean different things.",
        derive=_spellings,
        detail="label",
        counterexample={"label": ["cat", "Cat"]},
    ),
    Check(
        name="known_split",
        level="dataset",
        severity="critical",
        column="split_name",
        expectation="expect_column_values_to_be_in_set",
        arguments=lambda _: {"value_set": tuple(SPLIT_NAMES)},
        reason="its given split is none that is known",
        remedy="Call it train, val or test; an empty one is chosen by the pipeline.",
        derive=_split_name,
        detail="split",
        counterexample={"split": ["holdout"]},
    ),
    Check(
        name="no_copy_across_splits",
        level="dataset",
        severity="critical",
        column="given_splits_in_cluster",
        expectation="expect_column_values_to_be_between",
        arguments=lambda _: {"max_value": 1},
        reason="copies of it, pixel for pixel, are given to different splits",
        remedy="Keep the copies in one split, or delete all but one.",
        derive=_splits_in_cluster,
        detail="split",
        counterexample={"duplicate_cluster": [0, 9, 0], "split": ["train", None, "test"]},
    ),
    Check(
        name="no_group_across_splits",
        level="dataset",
        severity="critical",
        column="given_splits_in_group",
        expectation="expect_column_values_to_be_between",
        arguments=lambda _: {"max_value": 1},
        reason="images of one group (split.group) are given to different splits",
        remedy="Give the whole group to one split, or set split.group to null.",
        derive=_splits_in_group,
        detail="split",
        applies=lambda group: group is not None,
        counterexample={"group": ["a", "b", "a"], "split": ["train", None, "test"]},
    ),
)
