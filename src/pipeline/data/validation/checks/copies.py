"""Checks for copies: of the same pixels, and of nearly the same."""

from __future__ import annotations

import pandas as pd

from pipeline.data.manifest import split_of
from pipeline.data.validation.check import Check
from pipeline.data.validation.checks.families import clusters, distinct_in, size_of

_EXACT, _NEAR = "duplicate_cluster", "near_cluster"


def _copies(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return size_of(clusters(manifest, _EXACT))


def _pictures(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    """How many different pictures, pixel by pixel, the near duplicates of an image are."""
    return distinct_in(clusters(manifest, _NEAR), manifest[_EXACT])


def _labels(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return distinct_in(clusters(manifest, _EXACT), manifest["label"])


def _near_labels(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    """As `_labels`, of near duplicates; 1 where exact ones say it already."""
    near = distinct_in(clusters(manifest, _NEAR), manifest["label"])
    return near.where(_labels(manifest, None) <= 1, 1)


def given_splits(manifest: pd.DataFrame) -> pd.Series:
    return manifest["split"].map(split_of, na_action="ignore")


def _splits(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    return distinct_in(clusters(manifest, _EXACT), given_splits(manifest))


def _near_splits(manifest: pd.DataFrame, _: str | None) -> pd.Series:
    near = distinct_in(clusters(manifest, _NEAR), given_splits(manifest))
    return near.where(_splits(manifest, None) <= 1, 1)


COPIES: tuple[Check, ...] = (
    Check(
        name="conflicting_labels",
        level="row",
        severity="critical",
        column="labels_of_copies",
        expectation="expect_column_values_to_be_between",
        arguments=lambda _: {"max_value": 1},
        reason="copies of it, pixel for pixel, have another label",
        remedy="Decide on one label for all copies; until then none of them is used.",
        derive=_labels,
        detail="label",
        cluster=_EXACT,
        counterexample={"duplicate_cluster": [0, 0], "label": ["cat", "owl"]},
    ),
    Check(
        name="near_conflicting_labels",
        level="row",
        severity="warning",
        column="labels_of_near_copies",
        expectation="expect_column_values_to_be_between",
        arguments=lambda _: {"max_value": 1},
        reason="images that look almost the same have another label",
        remedy="Look at them side by side, and correct the wrong label.",
        derive=_near_labels,
        detail="label",
        cluster=_NEAR,
        counterexample={"near_cluster": [0, 0], "label": ["cat", "owl"]},
    ),
    Check(
        name="duplicates",
        level="row",
        severity="warning",
        column="copies",
        expectation="expect_column_values_to_be_between",
        arguments=lambda _: {"max_value": 1},
        reason="it is there more than once, pixel for pixel",
        remedy="Keep one of them; the copies stay in one split, but count more than once.",
        derive=_copies,
        detail="copies",
        wording=lambda copies: f"{copies:.0f} copies",
        cluster=_EXACT,
        counterexample={"duplicate_cluster": [0, 0]},
    ),
    Check(
        name="near_duplicates",
        level="row",
        severity="warning",
        column="near_copies",
        expectation="expect_column_values_to_be_between",
        arguments=lambda _: {"max_value": 1},
        reason="other images look almost the same",
        remedy="Keep one of them, if they show the same thing; they stay in one split.",
        derive=_pictures,
        detail="near_copies",
        wording=lambda pictures: f"{pictures:.0f} alike",
        cluster=_NEAR,
        counterexample={"near_cluster": [0, 0]},
    ),
    Check(
        name="duplicates_across_splits",
        level="dataset",
        severity="critical",
        column="splits_of_copies",
        expectation="expect_column_values_to_be_between",
        arguments=lambda _: {"max_value": 1},
        reason="copies of it, pixel for pixel, are given to different splits",
        remedy="Keep the copies in one split, or delete all but one.",
        derive=_splits,
        detail="split",
        cluster=_EXACT,
        counterexample={"duplicate_cluster": [0, 9, 0], "split": ["train", None, "test"]},
    ),
    Check(
        name="near_duplicates_across_splits",
        level="dataset",
        severity="critical",
        column="splits_of_near_copies",
        expectation="expect_column_values_to_be_between",
        arguments=lambda _: {"max_value": 1},
        reason="images that look almost the same are given to different splits",
        remedy="Give them to one split; a test on what was trained on measures memory.",
        derive=_near_splits,
        detail="split",
        cluster=_NEAR,
        counterexample={"near_cluster": [0, 9, 0], "split": ["train", None, "test"]},
    ),
)
