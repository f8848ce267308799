"""Folds for cross-validation that keep together what belongs together.

An image that is predicted by a network must not be known to it, and neither must a copy of it, or
another picture of the same object: the network would repeat the label it was shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import DataRefused
from pipeline.training.environment import derived_seed

Integers = NDArray[np.int64]
Splits = NDArray[np.str_]

VALIDATION_PARTS = 8
"""Of the images that a fold's network may see, one part in so many chooses its epoch."""


def families(columns: Sequence[pd.Series]) -> Integers:
    """(N,): equal for rows that share a value in one of ``columns``, if only by way of others.

    Null is shared by nobody.
    """
    family = np.arange(len(columns[0]))
    shared = [pd.factorize(column)[0].astype(np.int64) for column in columns]  # null is -1
    while True:
        before = family
        for codes in shared:
            family = _least_of_each(family, codes)
        if np.array_equal(family, before):
            return family


def _least_of_each(family: Integers, codes: Integers) -> Integers:
    present = codes >= 0
    least = np.full(codes.max(initial=-1) + 1, len(family))
    np.minimum.at(least, codes[present], family[present])
    joined = family.copy()
    joined[present] = least[codes[present]]
    return joined


def deal(targets: Integers, family: Integers, positions: Integers, *, parts: int) -> Integers:
    """(N,): which of ``parts``, from 0, each row is in: families whole, classes spread evenly.

    The families of several rows are placed first, the largest before the others, each where its
    classes are rarest so far; single rows then level the classes out. Equals go by their positions.

    Args:
        targets: (N,) classes, counted from 0.
        family: (N,) as `families` gives them.
        positions: (N,) not negative, in no order that means anything; a family has its least.
    """
    _, numbers, sizes = np.unique(family, return_inverse=True, return_counts=True)
    first = np.full(len(sizes), np.iinfo(np.int64).max)
    np.minimum.at(first, numbers, positions)
    taken = np.zeros((parts, int(targets.max(initial=-1)) + 1), np.int64)
    part = np.empty(len(targets), np.int64)

    order = np.lexsort((first[numbers], -sizes[numbers]))  # rows; those of a family together
    joint = order[sizes[numbers[order]] > 1]
    totals = np.bincount(targets, minlength=taken.shape[1]).clip(min=1)
    for rows in np.split(joint, np.flatnonzero(np.diff(numbers[joint])) + 1) if len(joint) else []:
        counts = np.bincount(targets[rows], minlength=taken.shape[1])
        crowding = (taken * counts / totals).sum(axis=1)
        part[rows] = chosen = np.lexsort((taken.sum(axis=1), crowding))[0]
        taken[chosen] += counts
    single = order[len(joint) :]
    for target in range(taken.shape[1]):
        rows = single[targets[single] == target]
        part[rows] = _levelled(taken[:, target], len(rows))
    return part


def _levelled(taken: Integers, count: int) -> Integers:
    """(count,): the parts to fill, the emptiest next, where ``taken`` are in them already."""
    levels = taken[:, None] + np.arange(count)  # of each part before its next row
    return np.argsort(levels, axis=None, kind="stable")[:count] // max(count, 1)


def fold_splits(
    targets: Integers,
    family: Integers,
    keys: Sequence[str],
    *,
    classes: Sequence[str],
    folds: int,
    seed: int,
) -> list[Splits]:
    """For each fold the split (N,) of every row: test in that fold, val and train elsewhere.

    The val part, by which a network's epoch is chosen, is no part of what is predicted. All follows
    from a hash of seed and key, not from the order of the rows.

    Args:
        keys: (N,) what identifies an image: the hash of its bytes.

    Raises:
        DataRefused: there are too few images or families, or a class cannot be learned without
            the images of one fold.
    """
    positions = np.array([derived_seed("fold", seed, key) for key in keys], dtype=np.int64)
    fold = deal(targets, family, positions, parts=folds)
    splits: list[Splits] = []
    for number in range(folds):
        split = np.full(len(targets), "test", dtype="<U5")
        known = np.flatnonzero(fold != number)
        part = deal(targets[known], family[known], positions[known], parts=VALIDATION_PARTS)
        split[known] = np.where(part == 0, "val", "train")
        _refuse_unlearnable(targets, split, classes)
        splits.append(split)
    return splits


def _refuse_unlearnable(targets: Integers, split: Splits, classes: Sequence[str]) -> None:
    sizes = {name: int((split == name).sum()) for name in ("train", "val", "test")}
    if min(sizes["train"], sizes["val"]) < 2 or not sizes["test"]:
        raise DataRefused(
            f"labels: {len(targets):,} images are too few to be judged by each other, or too many"
            " of them are copies or of one group (split.group in params.yaml); add images, or"
            " lower labels.folds"
        )
    unseen = sorted({*np.unique(targets)} - {*np.unique(targets[split == "train"])})
    if unseen:
        names = ", ".join(f"'{classes[i]}'" for i in unseen[:5]) + (", …" if unseen[5:] else "")
        raise DataRefused(
            f"labels: nearly all images of {names} are copies of each other or of one group"
            " (split.group in params.yaml), and to judge one of them a network must have learned"
            " the class from others; add images of other groups, or raise labels.folds"
        )
