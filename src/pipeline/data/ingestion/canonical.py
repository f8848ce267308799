"""The one layout that every source becomes: ``metadata.csv``, ``classes.json`` and ``images/``.

Equal sources give equal bytes: rows are sorted by ``file_name``, and nothing of the machine or the
moment is written.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.ingestion.rules import judge
from pipeline.data.sources import Listing
from pipeline.errors import DataRefused, did_you_mean
from pipeline.params import IngestParams

IMAGES = "images"
METADATA = "metadata.csv"
CLASSES = "classes.json"

_LEADING = ("file_name", "label", "weight", "split", "group")

Columns = dict[str, list[str]]
"""A table as text; all columns of one length, ``file_name`` and ``label`` among them."""


@dataclass(frozen=True)
class Batch:
    """The images of a source, with labels, weights and the names of the canonical layout."""

    columns: Columns
    originals: list[Path]
    """Where the bytes of each row's image lie."""
    classes: tuple[str, ...]
    """Their order; names without an image may be in it."""
    notes: tuple[str, ...]
    """By which rules labels and weights came about."""
    left_out: Counter[str]
    """Why files were left out, and how many."""
    refused: Counter[str]
    """Why files could not be taken, and how many."""
    where: str
    """The table or the folder, for messages."""
    shown: str
    """The address, as the user wrote it."""


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
    left_out: Counter[str]
    refused: Counter[str]
    shown: str


def read_batch(
    listing: Listing, params: IngestParams, *, configured: bool, shown: str = ""
) -> Batch:
    """Give ``listing`` labels and weights (`ingestion.rules.judge`), and canonical names.

    ``shown`` is the address where it was found, as the user wrote it.

    Raises:
        ConfigurationError, DataRefused: as `judge` does.
    """
    judged = judge(listing, params, configured=configured)
    return Batch(
        columns=judged.columns | {"file_name": _canonical_names(listing.columns["file_name"])},
        originals=[listing.folder / name for name in listing.columns["file_name"]],
        classes=judged.classes,
        notes=judged.notes,
        left_out=Counter(listing.skipped),
        refused=Counter(listing.refused),
        where=listing.where,
        shown=shown or str(listing.folder),
    )


def build_dataset(batch: Batch) -> Dataset:
    """Make ``batch`` a version of its own.

    Raises:
        DataRefused: there are fewer than two classes, one without images, or a label that is not
            in the order that the source gives.
    """
    names = batch.columns["file_name"]
    return Dataset(
        images=dict(sorted(zip(names, batch.originals, strict=True))),
        metadata=metadata_bytes(batch.columns),
        classes=classes_bytes(batch.classes),
        counts=_checked_counts(batch),
        notes=batch.notes,
        left_out=batch.left_out,
        refused=batch.refused,
        shown=batch.shown,
    )


def metadata_bytes(columns: Mapping[str, Sequence[str]]) -> bytes:
    """``metadata.csv``: the columns in their fixed order, the rows sorted by ``file_name``."""
    header = [name for name in _LEADING if name in columns]
    header += [name for name in columns if name not in _LEADING]
    rows = sorted(zip(*(columns[name] for name in header), strict=True))
    return "".join(",".join(map(_cell, row)) + "\n" for row in [header, *rows]).encode()


def parse_metadata(content: bytes) -> Columns:
    """The table in a ``metadata.csv`` that `scanning.listing.read_listing` accepts."""
    header, *rows = [
        row for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")) if row
    ]
    cells = zip(*rows, strict=True) if rows else ((),) * len(header)
    return {name: list(column) for name, column in zip(header, cells, strict=True)}


def classes_bytes(classes: Sequence[str]) -> bytes:
    return (json.dumps({"classes": list(classes)}, indent=2, ensure_ascii=False) + "\n").encode()


def parse_classes(path: Path) -> tuple[str, ...]:
    """The order of the classes in a ``classes.json``.

    Raises:
        DataRefused: it is missing, or holds no list of names that differ.
    """
    try:
        classes = json.loads(path.read_text(encoding="utf-8"))["classes"]
        names = tuple(str(name) for name in classes)
        if not isinstance(classes, list) or list(names) != classes or len({*names}) < len(names):
            raise ValueError(f"classes is {classes!r}")
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise DataRefused(
            f'{path}: expected {{"classes": ["name", …]}}, each name once ({error}); correct it'
        ) from error
    return names


def label_counts(labels: Sequence[str]) -> Counter[str]:
    """Images per label; those without one are not counted."""
    return Counter(label for label in labels if label.strip())


def _canonical_names(names: Sequence[str]) -> list[str]:
    """All below ``images/``, where a source that has that very folder keeps its names."""
    prefix = "" if all(name.startswith(f"{IMAGES}/") for name in names) else f"{IMAGES}/"
    return [prefix + name for name in names]


def _cell(value: str) -> str:
    """Quoted where need be: not by the csv module, whose choice differs between Pythons."""
    if any(mark in value for mark in ',"\r\n'):
        return '"' + value.replace('"', '""') + '"'
    return value


def _checked_counts(batch: Batch) -> dict[str, int]:
    order, where = batch.classes, batch.where
    counted = label_counts(batch.columns["label"])
    unknown = sorted(counted.keys() - set(order))
    if unknown:
        raise DataRefused(
            f"{where}: the label '{unknown[0]}' is not in the {CLASSES} beside it"
            f"{did_you_mean(unknown[0], order) or ';'} correct the label, or add the class"
            " at the end of that list"
        )
    empty = [name for name in order if not counted[name]]
    if len(set(order)) != len(order) or len(order) < 2 or len(order) - len(empty) < 2:
        only = f"only '{next(iter(counted))}'" if counted else "none"
        raise DataRefused(f"{where}: at least two classes are needed, found {only}; add another")
    if empty:
        raise DataRefused(
            f"{where}: no image of the class '{empty[0]}'; add some, or take it out of {CLASSES}"
        )
    return {name: counted[name] for name in order}
