"""The tables of a judgement: every label by doubt, and the one a person fills in.

``corrections.csv`` is what ``ingest --relabel`` reads. It belongs to whoever fills it in: a later
judgement writes it anew, but keeps the labels that were filled in and are not applied yet.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.artifacts import replacing
from pipeline.data.sources.table import read_table
from pipeline.errors import DataRefused
from pipeline.labels.quality import LabelQuality

LABELS = "labels.csv"
CORRECTIONS = "corrections.csv"

_SCORES = ("quality", "p_given", "p_suggested")


def write_labels(
    path: Path, quality: LabelQuality, file_names: Sequence[str], classes: Sequence[str]
) -> None:
    """Write every label with its scores, the most doubtful first."""
    scores = _scores(quality)
    rows = (
        (
            file_names[i],
            classes[quality.sample.targets[i]],
            classes[quality.suggested[i]],
            *scores[i],
            "yes" if quality.issue[i] else "no",
            rank,
        )
        for rank, i in enumerate(quality.order.tolist(), start=1)
    )
    _write(path, ("file_name", "label", "suggested", *_SCORES, "issue", "rank"), rows)


def write_corrections(
    path: Path,
    quality: LabelQuality,
    file_names: Sequence[str],
    classes: Sequence[str],
    *,
    shown: int,
    filled: Mapping[str, str],
) -> int:
    """Write the flagged images, at least ``shown``, for a person to fill in the column ``label``.

    Args:
        filled: what a person has filled in before, by file name, as `read_filled` gives it. Kept
            where the image is still there and has another label.

    Returns:
        How many of ``filled`` are kept.
    """
    scores, targets = _scores(quality), quality.sample.targets.tolist()
    kept = {
        name: filled[name]
        for name, target in zip(file_names, targets, strict=True)
        if filled.get(name, classes[target]) != classes[target]
    }
    listed = max(int(quality.issue.sum()), shown)
    order = quality.order.tolist()
    chosen = order[:listed] + [i for i in order[listed:] if file_names[i] in kept]
    rows = (
        (
            file_names[i],
            kept.get(file_names[i], ""),
            classes[targets[i]],
            classes[quality.suggested[i]],
            *scores[i],
        )
        for i in chosen
    )
    _write(path, ("file_name", "label", "given", "suggested", *_SCORES), rows)
    return len(kept)


def read_filled(path: Path, *, most_rows: int) -> dict[str, str]:
    """The labels that a person has filled in, by file name; none without a file.

    Raises:
        DataRefused: the file cannot be read as a table of corrections.
    """
    if not path.exists():
        return {}
    remedy = "so what was filled in would be lost; repair the file, or move it away"
    try:
        columns = read_table(path, None, shown=str(path), most_rows=most_rows).columns
    except DataRefused as error:
        raise DataRefused(f"{error}; {remedy}") from error
    if not {"file_name", "label"} <= columns.keys():
        raise DataRefused(
            f"{path}: expected the columns file_name and label, found {', '.join(columns)},"
            f" {remedy}"
        )
    pairs = zip(columns["file_name"], columns["label"], strict=True)
    return {name: label for name, label in pairs if label.strip()}


def _scores(quality: LabelQuality) -> list[tuple[str, ...]]:
    """The columns `_SCORES` of each row; four digits are more than they are worth."""
    columns = (quality.quality, quality.p_given, quality.p_suggested)
    return [
        tuple(f"{value:.4f}" for value in row)
        for row in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
