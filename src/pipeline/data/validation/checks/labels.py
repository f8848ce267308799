"""Checks of what the data says about the images: labels, classes, given splits and groups."""

from __future__ import annotations

import unicodedata
from types import MappingProxyType

import pandas as pd

from pipeline.data.manifest import SPLIT_NAMES
from pipeline.data.validation.check import Check
from pipeline.data.validation.checks.copies import given_splits
from pipeline.data.validation.checks.families import distinct_in, size_of

CLASSES = MappingProxyType({"$PARAMETER": "classes"})
"""Stands for the names in ``data/classes.json``, which Great Expectations fills in."""


def _label_if_listed(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return manifest["label"].where(manifest["status"] != "unlisted", "unlisted")


def _plainest(label: str) -> str:
    """What is left of a label without capitals, needless blanks and ways to write an accent."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())
    return " ".join(folded.split())


def _spellings(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    plainest = {label: _plainest(label) for label in manifest["label"].dropna().unique()}
    return distinct_in(manifest["label"].map(plainest), manifest["label"])


def _images_in_class(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return size_of(manifest["label"])


def _imbalance(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    counts = size_of(manifest["label"])
    return counts.max() / counts


def _split_name(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return manifest["split"].str.strip().str.lower()


def _splits_in_group(manifest: pd.DataFrame, group: str | None) -> pd.Series:
    return distinct_in(manifest[group or "group"], given_splits(manifest))


_LABELS: tuple[Check, ...] = (
    Check(
        name="unlabelled",
        level="row",
        severity="critical",
        column="label_if_listed",
        expectation="expect_column_values_to_not_be_null",
        arguments=lambda _: {},
        reason="it has no label",
        remedy="Give it a label in the source's table, or take its row out.",
        derive=_label_if_listed,
        fixed=True,
        counterexample={"label": [None]},
    ),
    Check(
        name="unknown_label",
        level="row",
        severity="critical",
        column="label",
        expectation="expect_column_values_to_be_in_set",
        arguments=lambda _: {"value_set": CLASSES},
        reason="its label is not in data/classes.json",
        remedy="Correct the label, or ingest the source anew so that the label becomes a class.",
        detail="label",
        wording=repr,
        fixed=True,
        counterexample={"label": ["dog"]},
    ),
    Check(
        name="padded_label",
        level="row",
        severity="warning",
        column="label",
        expectation="expect_column_values_to_not_match_regex",
        arguments=lambda _: {"regex": r"^\s|\s$"},
        reason="its label has blanks around it",
        remedy="Take the blanks away in the source's table.",
        detail="label",
        wording=repr,
        counterexample={"label": [" cat"]},
    ),
    Check(
        name="twin_labels",
        level="dataset",
        severity="warning",
        column="spellings",
        expectation="expect_column_values_to_be_between",
        arguments=lambda _: {"max_value": 1},
        reason="labels differ by capitals, blanks or ways to write an accent alone",
        remedy="Write them alike in the source's table, unless they mean different things.",
        derive=_spellings,
        detail="label",
        wording=repr,
        counterexample={"label": ["cat", "Cat"]},
    ),
)

_CLASSES: tuple[Check, ...] = (
    Check(
        name="single_class",
        level="dataset",
        severity="critical",
        column="label",
        expectation="expect_column_unique_value_count_to_be_between",
        arguments=lambda _: {"min_value": 2},
        reason="there are fewer than two classes to tell apart",
        remedy="Add images of a second class.",
        fixed=True,
        counterexample={"label": ["cat", "cat", "cat", "cat"]},
    ),
    Check(
        name="empty_class",
        level="dataset",
        severity="critical",
        column="label",
        expectation="expect_column_distinct_values_to_contain_set",
        arguments=lambda _: {"value_set": CLASSES},
        reason="a class of data/classes.json has no image",
        remedy="Add images of it, or ingest the source anew without that class.",
        fixed=True,
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
)

_SPLITS: tuple[Check, ...] = (
    Check(
        name="unknown_split",
        level="dataset",
        severity="critical",
        column="split_name",
        expectation="expect_column_values_to_be_in_set",
        arguments=lambda _: {"value_set": tuple(SPLIT_NAMES)},
        reason="its given split is none that is known",
        remedy="Call it train, val or test; an empty one is chosen by the pipeline.",
        derive=_split_name,
        detail="split",
        fixed=True,
        counterexample={"split": ["holdout"]},
    ),
    Check(
        name="group_across_splits",
        level="dataset",
        severity="critical",
        column="splits_of_group",
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

LABELS: tuple[Check, ...] = (*_LABELS, *_CLASSES, *_SPLITS)
