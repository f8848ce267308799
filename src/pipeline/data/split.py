"""Stage split: assign every accepted image to train, val or test.

An image's split follows from itself alone: a hash of the seed and its key, a number in [0, 1) that
is compared with the ratios. The key is the pixels' hash, or the group where ``split.group`` names
one, so exact copies and groups stay together, and an image keeps its split when others come or go.
Near duplicates have keys of their own: where these put them into different splits, those that would
leak are left out, and nobody moves. Data that is full of them, such as the frames of films, should
name a group, which keeps each film whole.

A class that lacks a split by chance gets an image (or group) there, the one whose number is
nearest: such a one may go back to train when more images of the class come.

What this costs is exactness. Of n keys of a class, the number in a split of ratio r is binomial:
it is off n·r by more than 4·sqrt(n·r·(1 - r)) about once in 16,000 times. Where exact numbers
matter, the data gives each image's split in a column.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.console import logger
from pipeline.data.manifest import SPLITS, read_table, split_of, to_frame, write_table
from pipeline.errors import ConfigurationError, DataRefused, did_you_mean
from pipeline.params import SplitParams
from pipeline.workspace import Workspace


def split(workspace: Workspace, params: SplitParams) -> None:
    """Write ``artifacts/split.parquet``: the split of each accepted image, sorted by file name.

    Where ``split.group`` is set, its column ``group`` names the group of each image, or is null.
    Images that would leak between splits (see `assign`) have a null there, and are logged.

    Raises:
        DataRefused: a given split is unknown, or a split lacks a class.
        ConfigurationError: ``split.group`` names no column.
        PipelineError: the accepted rows are missing.
    """
    accepted = to_frame(read_table(workspace.accepted))
    assigned = assign(accepted, params)
    _log_left_out(accepted, assigned)
    _refuse_empty(accepted["label"], assigned, params)
    names = pa.array(accepted["file_name"], pa.string())
    splits = pa.array(assigned, pa.string(), from_pandas=True)
    columns = {"file_name": names, "split": splits}
    if params.group is not None:
        groups = accepted[params.group].map(_group_name, na_action="ignore")
        columns["group"] = pa.array(groups, pa.string(), from_pandas=True)
    write_table(workspace.split, pa.table(columns).sort_by("file_name"))
    _log_counts(accepted["label"], assigned)
    logger.info("split: → %s", workspace.split.relative_to(workspace.root))


def assign(accepted: pd.DataFrame, params: SplitParams) -> pd.Series:
    """The split of each row, or null for a row that is left out; same index as ``accepted``.

    A given split is kept. Where every row has one but none is val (or none is test), that split is
    taken out of the given train, whole groups and clusters at a time, until the data gives one.
    All else is hashed, and a class that lacks a split by that is given an image or group there.

    Nobody else moves: where that leaves near duplicates or a group in two splits, the rows of one
    are left out. Given rows stay before hashed ones; among equals test stays before val, and val
    before train. No two rows that are left in different splits have a cluster or a group in common.

    Raises:
        DataRefused: a given split is unknown.
        ConfigurationError: ``split.group`` names no column.
    """
    if params.group is not None and params.group not in accepted.columns:
        raise ConfigurationError(
            f"params.yaml: split.group: the data has no column '{params.group}'"
            + did_you_mean(params.group, map(str, accepted.columns))
        )
    positions = _positions(_keys(accepted, params.group), params.seed, accepted.index)
    ratios = params.ratios.model_dump()
    given = _complete(_given(accepted), positions, ratios)
    assigned = given.where(given.notna(), _cut(positions, ratios))
    assigned = _each_class_everywhere(assigned, given.isna(), positions, accepted["label"])
    for members in _families(accepted, params.group):
        assigned = _one_split_each(assigned, given.notna(), members)
    return assigned


def _given(accepted: pd.DataFrame) -> pd.Series:
    named = accepted["split"]
    given = named.map(split_of, na_action="ignore").astype("str")
    unknown = sorted(set(named[named.notna() & given.isna()]))
    if unknown:
        raise DataRefused(
            f"data/metadata.csv: column split: {', '.join(map(repr, unknown[:3]))} is no split;"
            " call it train, val or test, or leave the cell empty"
            f"{did_you_mean(unknown[0].lower(), SPLITS)}"
        )
    renamed = named.notna() & (named != given)
    for word in sorted(set(named[renamed])):
        logger.info("split: the data's '%s' is taken as '%s'", word, split_of(word))
    return given


def _families(accepted: pd.DataFrame, group: str | None) -> list[pd.Series]:
    """What must not be torn apart, as a key for each row; null where a row is on its own."""
    clusters = accepted["near_cluster"]
    return [clusters.where(clusters >= 0), *([] if group is None else [accepted[group]])]


def _keys(accepted: pd.DataFrame, group: str | None) -> list[str]:
    """What an image's hash is made from: its group or, without one, its pixels."""
    pixels = accepted["pixel_hash"].tolist()
    if group is None:
        return [f"pixels {name}" for name in pixels]
    groups = accepted[group]
    return [
        f"pixels {name}" if alone else f"group {_group_name(value)}"
        for name, value, alone in zip(pixels, groups.tolist(), groups.isna().tolist(), strict=True)
    ]


def _group_name(value: object) -> str:
    """The same name for 7 and 7.0, which a column of whole numbers becomes by one empty cell."""
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)


def _positions(keys: list[str], seed: int, index: pd.Index) -> pd.Series:
    """A number in [0, 1) for each key, spread evenly, and independent for different seeds."""
    return pd.Series([_position(f"{seed} {key}") for key in keys], index, np.float64)


def _position(text: str) -> float:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53  # 53 bits, so that it never rounds up to 1


def _cut(positions: pd.Series, ratios: Mapping[str, float]) -> pd.Series:
    """The split in whose stretch of [0, 1) each position lies; stretches in the order of SPLITS."""
    names = [name for name in SPLITS if name in ratios]
    edges = np.cumsum([ratios[name] for name in names])[:-1] / sum(ratios.values())
    chosen = np.searchsorted(edges, positions.to_numpy(), side="right")
    return pd.Series(np.array(names, dtype=object)[chosen], index=positions.index, dtype="str")


def _complete(given: pd.Series, positions: pd.Series, ratios: Mapping[str, float]) -> pd.Series:
    """``given`` with a missing val or test taken out of train, where every row is given."""
    lacking = [name for name in ("val", "test") if not (given == name).any()]
    if given.isna().any() or not lacking:
        return given
    parts = {name: share for name, share in ratios.items() if name in {"train", *lacking}}
    train = given == "train"
    completed = given.where(~train, _cut(positions, parts))
    logger.info(
        "split: the data gives no %s; %s of its %s train images are used for that",
        " and no ".join(lacking),
        f"{int((completed != given).sum()):,}",
        f"{int(train.sum()):,}",
    )
    return completed


def _each_class_everywhere(
    assigned: pd.Series, free: pd.Series, positions: pd.Series, labels: pd.Series
) -> pd.Series:
    """``assigned``, where a class that lacks a split has the nearest key of one with several."""
    chosen = assigned.map({name: i for i, name in enumerate(SPLITS)}).to_numpy(np.int8)
    keys = positions.to_numpy()
    classes, names = pd.factorize(labels, sort=True)
    rows_of_class, rows_of_key = (_finder(values, free.to_numpy()) for values in (classes, keys))
    for split in range(len(SPLITS)):
        counts = np.bincount(classes[chosen == split], minlength=len(names))
        for lacking in np.flatnonzero(counts == 0):
            rows = rows_of_class(lacking)
            found = [np.unique(keys[rows[chosen[rows] == i]]) for i in range(len(SPLITS))]
            below = [own[-1] for own in found[:split] if len(own) > 1]
            above = [own[0] for own in found[split + 1 :] if len(own) > 1]
            if below or above:
                chosen[rows_of_key(max(below) if below else min(above))] = split
    splits = np.array(SPLITS, dtype=object)[chosen]
    return pd.Series(splits, assigned.index, assigned.dtype, assigned.name)


def _finder(values: NDArray[Any], among: NDArray[np.bool_]) -> Callable[[Any], NDArray[np.int64]]:
    """A function from a value to the rows that have it, which looks at few of them."""
    rows = np.flatnonzero(among)
    rows = rows[np.argsort(values[rows], kind="stable")]
    ordered = values[rows]

    def find(value: Any) -> NDArray[np.int64]:
        return rows[slice(*(np.searchsorted(ordered, value, side) for side in ("left", "right")))]

    return find


def _one_split_each(assigned: pd.Series, given: pd.Series, family: pd.Series) -> pd.Series:
    """``assigned`` without the rows by which a family straddles two splits."""
    present = assigned.notna() & family.notna()
    rank = assigned[present].map({name: i for i, name in enumerate(SPLITS)}).astype(np.int64)
    rank += given[present] * len(SPLITS)
    keys = family[present]
    staying = rank.groupby(keys).transform("max") % len(SPLITS)
    leaving = staying.index[staying != rank % len(SPLITS)]
    return assigned.mask(assigned.index.isin(leaving))


def _log_left_out(accepted: pd.DataFrame, assigned: pd.Series) -> None:
    names = accepted.loc[assigned.isna(), "file_name"].tolist()
    if names:
        logger.warning(
            "split: %s left out, because a copy or their group is in another split: %s",
            f"{len(names):,} images are" if len(names) > 1 else "1 image is",
            ", ".join(names[:10]) + (", …" if len(names) > 10 else ""),
        )


def _refuse_empty(labels: pd.Series, assigned: pd.Series, params: SplitParams) -> None:
    counts = pd.crosstab(labels, assigned).reindex(columns=list(SPLITS), fill_value=0)
    counts = counts.reindex(sorted(set(labels)), fill_value=0)
    lines = [
        f"  {label}: {', '.join(f'{row[name]:,} {name}' for name in SPLITS)}"
        for label, row in counts.iterrows()
        if (row == 0).any()
    ]
    if lines:
        shown = "\n".join(lines[:20] + ["  …"] * (len(lines) > 20))
        raise DataRefused(
            f"every split needs an image of every class, and these classes lack one:\n{shown}\n"
            f"add images of them{'' if params.group is None else ', of other groups'}, or give each"
            " image's split in a column 'split' of the data"
        )


def _log_counts(labels: pd.Series, assigned: pd.Series) -> None:
    counts = pd.crosstab(labels, assigned).reindex(columns=list(SPLITS), fill_value=0)
    counts.loc["all"] = counts.sum()
    wide = max(len(str(label)) for label in counts.index)
    logger.info("split: %s  %s", " " * wide, " ".join(f"{name:>9}" for name in SPLITS))
    for label, row in list(counts.iterrows())[-31:]:
        numbers = " ".join(f"{row[name]:>9,}" for name in SPLITS)
        logger.info("split: %s  %s", str(label).ljust(wide), numbers)
