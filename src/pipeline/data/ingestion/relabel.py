"""Corrections of labels, from a table that a person has gone through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.ingestion.canonical import (
    CLASSES,
    METADATA,
    Columns,
    classes_bytes,
    label_counts,
    metadata_bytes,
)
from pipeline.data.ingestion.classes import check_none_emptied, merged_classes
from pipeline.data.ingestion.present import Present
from pipeline.data.ingestion.staging import Staging
from pipeline.data.ingestion.summary import Summary, images_per_class
from pipeline.data.sources.table import Table, read_table
from pipeline.data.wording import indented, several
from pipeline.errors import ConfigurationError, DataRefused, did_you_mean
from pipeline.params import LimitParams

REMOVE = "(remove)"
"""In place of a label: the image leaves the version."""

_FEW = 20_000
"""Names up to which the nearest one is looked for, which takes a second."""


def correct(
    present: Present,
    path: Path,
    staging: Staging,
    *,
    limits: LimitParams,
    allow_new_classes: bool,
) -> Summary:
    """Stage ``present`` with the corrections in the table at ``path``.

    Raises:
        ConfigurationError, DataRefused: as `read_corrections` and `corrections`; or a class would
            lose its last image.
    """
    table = present.table()
    wanted = read_corrections(path, table, most_rows=limits.files)
    after = corrections(
        table, present.classes(), wanted, allow_new_classes=allow_new_classes, where=str(path)
    )
    summary = Summary("relabelled", str(path), classes=after.classes)
    summary.before = images_per_class(after.classes, table["label"])
    summary.after = images_per_class(after.classes, after.columns["label"])
    check_none_emptied(summary.before, summary.after, str(path))
    for name in present.hashes.keys() - {METADATA, CLASSES, *after.removed}:
        staging.keep(name)
    staging.write(METADATA, metadata_bytes(after.columns))
    staging.write(CLASSES, classes_bytes(after.classes))
    _count(summary, present, after)
    return summary


def _count(summary: Summary, present: Present, after: Corrections) -> None:
    arrows = [f"{name}: {old or 'none'} → {new}" for name, (old, new) in after.relabelled.items()]
    summary.count(len(arrows), "corrected", arrows)
    summary.count(len(after.removed), "taken out", after.removed)
    summary.count(len(after.absent), "to be taken out, and not in data/", after.absent)
    summary.count(after.as_before, "as before")
    twins = _twins(present, after)
    summary.count(
        len(twins), "keep another label than a corrected image with the same bytes", twins
    )
    summary.details |= {
        "relabelled": {name: list(labels) for name, labels in after.relabelled.items()},
        "removed": list(after.removed),
        "twins": twins,
    }


def _twins(present: Present, after: Corrections) -> list[str]:
    """The images with the bytes of a relabelled one and another label than it has now."""
    labels = {present.hashes.get(name): label for name, (_, label) in after.relabelled.items()}
    rows = zip(after.columns["file_name"], after.columns["label"], strict=True)
    return [n for n, label in rows if labels.get(present.hashes.get(n), label) != label]


@dataclass(frozen=True)
class Corrections:
    """A version's table after them."""

    columns: Columns
    classes: tuple[str, ...]
    relabelled: dict[str, tuple[str, str]]
    """``file_name`` to the label before and after, where they differ."""
    removed: tuple[str, ...]
    absent: tuple[str, ...]
    """What was to be taken out and is no image of the version, as where a table is given again."""
    as_before: int
    """Rows whose label is the one that the image has, or empty."""


def corrections(
    columns: Columns,
    classes: Sequence[str],
    wanted: Mapping[str, str],
    *,
    allow_new_classes: bool,
    where: str,
) -> Corrections:
    """Give images the labels ``wanted``: an empty one changes nothing, `REMOVE` takes it out.

    Raises:
        DataRefused: a label is no class, and new ones are not allowed.
    """
    labels = dict(zip(columns["file_name"], columns["label"], strict=True))
    unwanted = {name for name, label in wanted.items() if label == REMOVE}
    removed, absent = unwanted & labels.keys(), unwanted - labels.keys()
    changed = {
        name: (labels[name], label)
        for name, label in sorted(wanted.items())
        if label and label != REMOVE and label != labels[name]
    }
    counts = label_counts([label for _, label in changed.values()])
    after = merged_classes(
        classes, counts, sorted(counts), allow_new=allow_new_classes, where=where
    )
    labels |= {name: label for name, (_, label) in changed.items()}
    kept = [i for i, name in enumerate(columns["file_name"]) if name not in removed]
    table = {name: [values[i] for i in kept] for name, values in columns.items()}
    table["label"] = [labels[name] for name in table["file_name"]]
    as_before = len(wanted) - len(changed) - len(unwanted)
    return Corrections(
        table, after, changed, tuple(sorted(removed)), tuple(sorted(absent)), as_before
    )


def read_corrections(path: Path, columns: Columns, *, most_rows: int) -> dict[str, str]:
    """Each image that the table at ``path`` names, to the label it gives, ``""`` for none.

    Columns other than ``file_name`` and ``label`` are ignored.

    Raises:
        ConfigurationError: there is no such file.
        DataRefused: it cannot be read, gives a label to an image that ``columns`` lacks, or two
            labels to one.
    """
    if not path.is_file():
        near = did_you_mean(path.name, (p.name for p in path.parent.glob("*")))
        raise ConfigurationError(
            f"ingest --relabel: there is no file '{path}'{near or ';'}"
            " expected a table with the columns file_name and label"
        )
    table = read_table(path, None, shown=str(path), most_rows=most_rows)
    for column in ("file_name", "label"):
        if column not in table.columns:
            raise DataRefused(
                f"{path}: no column '{column}', only {', '.join(table.columns)}"
                f"{did_you_mean(column, table.columns) or ';'} a table of corrections needs"
                " file_name and label"
            )
    _check_names(path, table, columns["file_name"])
    wanted: dict[str, str] = {}
    lines: dict[str, int] = {}
    twice: list[str] = []
    rows = zip(table.columns["file_name"], table.columns["label"], table.lines, strict=True)
    for name, label, line in rows:
        said = label if label.strip() else ""
        if said and wanted.get(name) and said != wanted[name]:
            twice.append(f"{name}: '{wanted[name]}' in line {lines[name]}, '{said}' in line {line}")
        if said or name not in wanted:
            wanted[name], lines[name] = said, line
    if twice:
        raise DataRefused(
            f"{path}: {several(len(twice), 'image')} with two labels:\n{indented(twice)}\n"
            "  keep one row of each; nothing was changed"
        )
    return wanted


def _check_names(path: Path, table: Table, names: Sequence[str]) -> None:
    known = {*names}
    rows = zip(table.columns["file_name"], table.columns["label"], table.lines, strict=True)
    unknown = [(n, line) for n, label, line in rows if n not in known and label != REMOVE]
    if unknown:
        nearby = known if len(known) <= _FEW else ()
        shown = [
            f"line {line}: '{name}'{did_you_mean(name, nearby) if i < 5 else ''}"
            for i, (name, line) in enumerate(unknown)
        ]
        raise DataRefused(
            f"{path}: {several(len(unknown), 'image')} that data/metadata.csv does not list:\n"
            f"{indented(shown)}\n"
            "  write names as they stand there, such as images/a.png; nothing was changed"
        )
