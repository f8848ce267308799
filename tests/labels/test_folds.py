"""Folds keep copies and groups together, and classes evenly spread."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from pipeline.errors import DataRefused
from pipeline.labels.folds import deal, families, fold_splits

CLASSES = ("a", "b", "c")


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Images with clusters, some not decoded, and groups, some empty."""
    count = draw(st.integers(30, 60))

    def column(values: st.SearchStrategy) -> list:
        return draw(st.lists(values, min_size=count, max_size=count))

    exact = column(st.integers(-1, 200))
    return pd.DataFrame(
        {
            "key": [f"{i:03}" for i in range(count)],
            "target": [i % 3 for i in range(count)],
            "duplicate_cluster": exact,
            "near_cluster": [c if c < 100 else 100 + c // 4 for c in exact],
            "group": column(st.sampled_from([None] * 5 + list("pqrstuvw"))),
        }
    )


def splits_of(table: pd.DataFrame, folds: int, seed: int = 0) -> list[np.ndarray]:
    return fold_splits(
        table["target"].to_numpy(),
        families(
            [
                *(table[c].where(table[c] >= 0) for c in ("duplicate_cluster", "near_cluster")),
                table["group"],
            ]
        ),
        table["key"].tolist(),
        classes=CLASSES,
        folds=folds,
        seed=seed,
    )


@given(tables(), st.integers(2, 5))
def test_no_cluster_and_no_group_is_ever_on_two_sides(table, folds):
    try:
        splits = splits_of(table, folds)
    except DataRefused:
        reject()
    for split in splits:
        for name in ("duplicate_cluster", "near_cluster", "group"):
            known = table[name].notna() & (table[name] != -1)
            sides = pd.Series(split)[known].groupby(table[name][known]).nunique()
            assert (sides == 1).all(), name
    tested = np.stack([split == "test" for split in splits])
    assert (tested.sum(axis=0) == 1).all()


@given(st.integers(20, 200), st.integers(2, 6), st.integers(0, 5))
def test_single_images_spread_each_class_evenly(count, parts, seed):
    rng = np.random.default_rng(seed)
    targets, positions = rng.integers(0, 3, count), rng.integers(0, 2**60, count)
    part = deal(targets, np.arange(count), positions, parts=parts)
    for target in range(3):
        counts = np.bincount(part[targets == target], minlength=parts)
        assert counts.max() - counts.min() <= 1


def test_large_families_leave_the_folds_as_even_as_they_can():
    targets = np.array([0] * 60 + [1] * 60)
    family = np.r_[np.repeat(np.arange(12), 5), 12 + np.arange(60)]  # class 0 in twelve families
    part = deal(targets, family, np.arange(120), parts=4)
    assert np.bincount(part[targets == 0]).tolist() == [15] * 4
    assert np.bincount(part[targets == 1]).tolist() == [15] * 4


def test_folds_do_not_depend_on_the_order_of_the_images_but_on_the_seed():
    table = pd.DataFrame(
        {
            "key": [f"{i:03}" for i in range(60)],
            "target": [i % 3 for i in range(60)],
            "duplicate_cluster": [i // 2 if i < 20 else i for i in range(60)],
            "near_cluster": -1,
            "group": None,
        }
    )
    shuffled = table.sample(frac=1, random_state=1)
    for one, other in zip(splits_of(table, 4), splits_of(shuffled, 4), strict=True):
        assert (pd.Series(other, shuffled.index).sort_index() == one).all()
    assert any(
        (one != other).any()
        for one, other in zip(splits_of(table, 4), splits_of(table, 4, seed=1), strict=True)
    )


def test_families_reach_over_others_and_nothing_is_shared_by_empty_cells():
    table = pd.DataFrame(
        {
            "cluster": [0, 0, 1, 1, None, None, 2],
            "group": [None, "x", "x", None, None, "y", "y"],
        }
    )
    family = families([table["cluster"], table["group"]])
    assert family.tolist() == [0, 0, 0, 0, 4, 5, 5]


def test_a_class_that_nothing_else_teaches_is_refused():
    table = pd.DataFrame({"target": [0] * 30 + [1] * 30, "group": [None] * 30 + ["same"] * 30})
    with pytest.raises(DataRefused, match=r"images of 'b' are copies.*split\.group"):
        fold_splits(
            table["target"].to_numpy(),
            families([table["group"]]),
            [f"{i}" for i in range(60)],
            classes=CLASSES,
            folds=3,
            seed=0,
        )


def test_too_few_images_are_refused():
    with pytest.raises(DataRefused, match="5 images are too few"):
        fold_splits(
            np.array([0, 1, 0, 1, 0]), np.arange(5), list("abcde"), classes=CLASSES, folds=3, seed=0
        )
