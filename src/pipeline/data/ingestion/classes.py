"""The classes of a version that comes from another one: none changes its number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.data.ingestion.canonical import CLASSES
from pipeline.data.wording import SHOWN, indented, quoted, several
from pipeline.errors import DataRefused, did_you_mean


def merged_classes(
    present: Sequence[str],
    labels: Mapping[str, int],
    order: Sequence[str],
    *,
    allow_new: bool,
    where: str,
) -> tuple[str, ...]:
    """``present``, and behind it the classes of ``labels`` (name to count) that it lacks, in
    ``order``.

    Raises:
        DataRefused: there are such and they are not allowed.
    """
    new = [name for name in dict.fromkeys([*order, *labels]) if labels.get(name)]
    new = [name for name in new if name not in present]
    if new and not allow_new:
        lines = [f"{quoted(name)}: {several(labels[name], 'image')}" for name in new]
        lines[:SHOWN] = [
            line + did_you_mean(name, present)
            for name, line in zip(new, lines[:SHOWN], strict=False)
        ]
        raise DataRefused(
            f"{where}: {several(len(new), 'label')} not in data/{CLASSES}"
            f" ({', '.join(present)}):\n{indented(lines)}\n"
            "  correct the labels, or append the new classes by '--allow-new-classes'"
        )
    return (*present, *new)


def check_none_emptied(before: Mapping[str, int], after: Mapping[str, int], where: str) -> None:
    """See that no class loses its last image.

    Raises:
        DataRefused: one would.
    """
    emptied = [name for name, count in before.items() if name and count and not after.get(name)]
    if emptied:
        raise DataRefused(
            f"{where}: would leave no image of the class {quoted(emptied[0])}, and a class keeps"
            " its number for good; keep one of its images, or make a new version without the class"
            " by 'python -m pipeline ingest SOURCE --replace'"
        )
