"""What becomes of a batch that is added to a version: image by image, then as one table.

An image is known by its bytes. No row of the version changes, but for the label of an image that
the batch labels otherwise, and that only where it is asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import PurePosixPath

from pipeline.console import progress
from pipeline.data.ingestion.canonical import (
    CLASSES,
    METADATA,
    Batch,
    Columns,
    classes_bytes,
    label_counts,
    metadata_bytes,
)
from pipeline.data.ingestion.classes import check_none_emptied, merged_classes
from pipeline.data.ingestion.names import Names
from pipeline.data.ingestion.present import Present
from pipeline.data.ingestion.staging import Staging
from pipeline.data.ingestion.summary import Summary, images_per_class
from pipeline.data.wording import file_size, indented, quoted, several
from pipeline.errors import DataRefused

_NO_BYTES = "d41d8cd98f00b204e9800998ecf8427e"
"""The MD5 of an empty file: two of them have nothing in common."""


class OnConflict(StrEnum):
    """What to do where a batch labels an image otherwise than ``data/``."""

    REFUSE = "refuse"
    KEEP = "keep"
    REPLACE = "replace"


@dataclass(frozen=True)
class Conflict:
    """One image, two labels."""

    file_name: str
    """In ``data/``."""
    label: str
    batch_name: str
    batch_label: str

    def line(self) -> str:
        return (
            f"{self.file_name}: {quoted(self.label)} in data/,"
            f" {quoted(self.batch_label)} in the batch ({self.batch_name})"
        )

    def short(self) -> str:
        return f"{self.file_name}: {quoted(self.label)}, batch: {quoted(self.batch_label)}"


class Merge:
    """A batch on its way into a version. Call `place` for each of its rows, then `columns`."""

    def __init__(self, table: Columns, hashes: Mapping[str, str], batch: Batch) -> None:
        """
        Args:
            table: the version's rows.
            hashes: the MD5 of each of its files.
            batch: with names of the canonical layout.
        """
        self.same_as_data: list[tuple[str, str]] = []
        """(Name in the batch, name in data/) of images that were there already."""
        self.repeated: list[tuple[str, str]] = []
        """(Name in the batch, the one taken in its stead) of images that the batch has twice."""
        self.renamed: list[tuple[str, str]] = []
        """(Name in the batch, name in data/) where another image had the name."""
        self._table, self._batch = table, batch
        self._labels = dict(zip(table["file_name"], table["label"], strict=True))
        self._hashes = hashes
        self._names = Names({*hashes, *self._labels})  # a row may name a file that is missing
        self._holders: dict[str, list[str]] = defaultdict(list)
        for name in sorted(hashes.keys() - {METADATA, CLASSES}):
            if hashes[name] != _NO_BYTES:
                self._holders[hashes[name]].append(name)
        self._first: dict[str, int] = {}  # content to the first row of the batch that has it
        self._said: dict[str, str] = {}  # content to the batch's label for it
        self._added: dict[str, int] = {}  # new name to row of the batch
        self._contents: dict[int, str] = {}
        self._matched: dict[str, tuple[str, list[str]]] = {}  # to names in batch and version
        self._contradictions: dict[str, str] = {}

    def place(self, row: int, md5: str) -> str | None:
        """Where in ``data/`` the image of ``row`` goes; ``None``: its content is there already."""
        name, label = self._batch.columns["file_name"][row], self._batch.columns["label"][row]
        content = md5 if md5 != _NO_BYTES else f"{md5} {name}"
        first = self._first.setdefault(content, row)
        if first != row:
            self._repeat(row, first, content)
            return None
        self._said[content] = label
        self._contents[row] = content
        holders = self._holders.get(md5, [])
        if self._hashes.get(name) == md5:
            holders = [name, *(holder for holder in holders if holder != name)]
        if not holders:
            new = self._names.claim(name, md5)
            self._added[new] = row
            if new != name:
                self.renamed.append((name, new))
            return new
        listed = [holder for holder in holders if holder in self._labels]
        if listed:
            self.same_as_data.append((name, listed[0]))
            self._matched[content] = name, listed
        else:  # a file that no row of the version names: now one does
            self._added[holders[0]] = row
            self._labels[holders[0]] = label
        return None

    def _repeat(self, row: int, first: int, content: str) -> None:
        names, labels = self._batch.columns["file_name"], self._batch.columns["label"]
        self.repeated.append((names[row], names[first]))
        said, label = self._said[content], labels[row]
        if label and said and label != said:
            self._contradictions.setdefault(
                content, f"{names[first]}: {quoted(said)}, but {names[row]}: {quoted(label)}"
            )
        self._said[content] = said or label

    @property
    def conflicts(self) -> list[Conflict]:
        """Images of ``data/`` that the batch labels otherwise, sorted by name."""
        return sorted((conflict for conflict, _ in self._conflicts()), key=lambda c: c.file_name)

    def _conflicts(self) -> Iterator[tuple[Conflict, list[str]]]:
        """Each with all the rows of the version that have the image."""
        for content, (name, listed) in self._matched.items():
            asked = listed[:1] if listed[0] == name else listed
            label = self._said[content]
            if label and label not in {self._labels[holder] for holder in asked}:
                yield Conflict(listed[0], self._labels[listed[0]], name, label), listed

    @property
    def added(self) -> int:
        """Images that get a row."""
        return len(self._added)

    def columns(self, on_conflict: OnConflict) -> Columns:
        """The version's rows and the new ones; columns that only one side has are filled with
        empty cells.

        Raises:
            DataRefused: the batch contradicts itself, or ``data/``, and ``on_conflict`` refuses.
        """
        if self._contradictions:
            raise DataRefused(
                f"{self._batch.where}: gives {several(len(self._contradictions), 'image')} two"
                f" labels each:\n{indented(list(self._contradictions.values()))}\n"
                "  correct the labels, or leave out what is in doubt, and ingest again"
            )
        conflicts = self.conflicts
        if conflicts and on_conflict is OnConflict.REFUSE:
            raise DataRefused(
                f"{self._batch.where}: {several(len(conflicts), 'image')} of data/ with"
                f" another label:\n{indented([each.line() for each in conflicts])}\n"
                "  go on with '--on-conflict keep' (the labels of data/ stay) or"
                " '--on-conflict replace' (the batch's labels count)"
            )
        labels = dict(self._labels)
        if on_conflict is OnConflict.REPLACE:
            for conflict, rows in self._conflicts():
                labels |= dict.fromkeys(rows, conflict.batch_label)
        return self._joined(labels)

    def _joined(self, labels: Mapping[str, str]) -> Columns:
        old, new = self._table, self._batch.columns
        rows = list(self._added.values())
        nothing = [""] * len(old["file_name"])
        joined = {
            name: old.get(name, nothing) + [new[name][row] if name in new else "" for row in rows]
            for name in {**old, **new}
        }
        joined["file_name"] = [*old["file_name"], *self._added]
        said = [self._said[self._contents[row]] for row in rows]
        joined["label"] = [*(labels[name] for name in old["file_name"]), *said]
        return joined


def add_batch(
    present: Present,
    batch: Batch,
    staging: Staging,
    *,
    on_conflict: OnConflict,
    allow_new_classes: bool,
) -> Summary:
    """Stage ``present`` with the images of ``batch`` that it lacks.

    Raises:
        DataRefused: labels that are no classes, or contradict themselves or ``data/``, and are not
            allowed to; the last image of a class would get another label.
    """
    table, classes = present.table(), present.classes()
    classes = merged_classes(
        classes,
        label_counts(batch.columns["label"]),
        batch.classes,
        allow_new=allow_new_classes,
        where=batch.where,
    )
    merge = Merge(table, present.hashes, batch)
    rows = sorted(range(len(batch.originals)), key=batch.columns["file_name"].__getitem__)
    with progress("read the batch", len(rows)) as step:
        for row in rows:
            staging.take(batch.originals[row], partial(merge.place, row))
            step.advance()
    columns = merge.columns(on_conflict)
    summary = Summary("added", batch.shown, batch.notes, classes=classes)
    summary.before = images_per_class(classes, table["label"])
    summary.after = images_per_class(classes, columns["label"])
    check_none_emptied(summary.before, summary.after, batch.where)
    for name in present.hashes.keys() - {METADATA, CLASSES}:
        staging.keep(name)
    staging.write(METADATA, metadata_bytes(columns))
    staging.write(CLASSES, classes_bytes(classes))
    _count(summary, merge, staging.bytes_in, on_conflict)
    summary.count_reasons(batch.left_out, batch.refused)
    return summary


def _count(summary: Summary, merge: Merge, bytes_in: int, on_conflict: OnConflict) -> None:
    renamed = [f"{name} → {PurePosixPath(new).name}" for name, new in merge.renamed]
    conflicts = merge.conflicts
    verb = "stays" if on_conflict is OnConflict.KEEP else "gave way to the batch's"
    summary.count(merge.added, f"came in, {file_size(bytes_in)}")
    summary.count(len(renamed), "under a new name: another image has theirs", renamed)
    summary.count(len(merge.same_as_data), "not stored again: data/ has the same bytes")
    summary.count(len(merge.repeated), "not stored again: twice in the batch")
    summary.count(
        len(conflicts), f"in conflict: the label of data/ {verb}", [c.short() for c in conflicts]
    )
    summary.details |= {
        "renamed": dict(merge.renamed),
        "same_as_data": dict(merge.same_as_data),
        "repeated": dict(merge.repeated),
        "conflicts": [asdict(conflict) for conflict in conflicts],
    }
