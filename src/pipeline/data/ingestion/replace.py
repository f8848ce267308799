"""A source that takes the place of whatever was in ``data/``."""

from __future__ import annotations

from functools import partial

from pipeline.console import progress
from pipeline.data.ingestion.canonical import CLASSES, METADATA, Columns, Dataset, parse_metadata
from pipeline.data.ingestion.present import Present
from pipeline.data.ingestion.staging import Staging
from pipeline.data.ingestion.summary import Summary, images_per_class
from pipeline.data.wording import file_size
from pipeline.errors import PipelineError


def replace(present: Present | None, dataset: Dataset, staging: Staging) -> Summary:
    """Stage ``dataset`` as a version of its own; ``present`` is the one whose place it takes."""
    write_dataset(dataset, staging)
    before = _table(present) if present else None
    after = parse_metadata(dataset.metadata)
    classes = tuple(dataset.counts)
    summary = Summary("replaced", dataset.shown, dataset.notes, classes=classes)
    summary.after = images_per_class(classes, after["label"])
    summary.count(
        len(dataset.images), f"in this version, {file_size(staging.bytes_in)} of them new"
    )
    if present and before is not None:
        summary.before = images_per_class(classes, before["label"])
        for number, what in _differences(present, before, staging, after):
            summary.count(number, what)
    summary.count_reasons(dataset.left_out, dataset.refused)
    return summary


def write_dataset(dataset: Dataset, staging: Staging) -> None:
    """Stage all files of ``dataset``.

    Raises:
        DataRefused: a file of the source vanished, or may not be read.
        OSError: the disk is full.
    """
    with progress("copy", len(dataset.images)) as step:
        for name, original in dataset.images.items():
            staging.take(original, partial(_named, name))
            step.advance()
    staging.write(METADATA, dataset.metadata)
    staging.write(CLASSES, dataset.classes)


def _named(name: str, _md5: str) -> str:
    return name


def _table(present: Present) -> Columns:
    try:
        return present.table()
    except PipelineError:  # it goes anyway
        return {"file_name": [], "label": []}


def _differences(
    present: Present, before: Columns, staging: Staging, after: Columns
) -> list[tuple[int, str]]:
    old, new = _by_name(before), _by_name(after)
    both = old.keys() & new.keys()
    labels = sum(old[name]["label"] != new[name]["label"] for name in both)
    return [
        (len(new.keys() - old.keys()), "added"),
        (len(old.keys() - new.keys()), "removed"),
        (
            sum(present.hashes.get(name) != staging.hashes[name] for name in both),
            "with other bytes",
        ),
        (labels, "with another label"),
        (
            sum(old[name] != new[name] for name in both) - labels,
            "with other values beside the label",
        ),
    ]


def _by_name(table: Columns) -> dict[str, dict[str, str]]:
    rows = (dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True))
    return {row["file_name"]: row for row in rows}
