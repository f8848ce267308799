"""Class folders: ``FOLDER/CLASS/…/image.png``; the first folder's name is the label."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pipeline.data.sources.source import (
    IMAGE_SUFFIXES,
    Listing,
    Request,
    check_folder,
    inside,
    is_system,
    safe_name,
    walk,
)
from pipeline.errors import DataRefused

FORM = "a folder with a folder of images for each class"

_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})


def claims(request: Request) -> bool:
    return request.folder.is_dir()


def read(request: Request) -> Listing:
    """List the images of each class folder.

    Raises:
        DataRefused: there are no images, a class without any, folders that look like splits, or a
            link that leaves the folder.
    """
    folder = check_folder(request)
    skipped: Counter[str] = Counter()
    names: list[str] = []
    labels: list[str] = []
    resolved: dict[Path, bool] = {}
    for name in walk(folder, skipped):
        label, _, rest = name.partition("/")
        if not rest:
            skipped["images beside the class folders"] += 1
            continue
        inside(folder / name, folder, resolved)
        names.append(safe_name(name, str(folder)))
        labels.append(label)
    _check_classes(folder, request.shown, set(labels), skipped)
    return Listing(
        folder=folder,
        columns={"file_name": names, "label": labels},
        origin="class folders",
        skipped=skipped,
    )


def _check_classes(folder: Path, shown: str, labels: set[str], skipped: Counter[str]) -> None:
    if not labels:
        raise DataRefused(
            f"{shown}: no images in class folders; expected CLASS/image.png with one of"
            f" {' '.join(sorted(IMAGE_SUFFIXES))}, or a metadata.csv{_tables(folder)}"
            + "".join(f"\n  left out: {why} ({count:,})" for why, count in sorted(skipped.items()))
        )
    if {label.lower() for label in labels} <= _SPLITS:
        raise DataRefused(
            f"{shown}: its folders ({', '.join(sorted(labels))}) look like splits, not classes;"
            " write a metadata.csv with the columns file_name, label and split (train, val, test)"
        )
    empty = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir()
        and not path.is_symlink()
        and not is_system(path.name)
        and path.name not in labels
    )
    if empty:
        raise DataRefused(
            f"{shown}: no images of the class {', '.join(repr(name) for name in empty)};"
            " put some into the folder, or remove it"
        )


def _tables(folder: Path) -> str:
    found = sorted(path.name for path in folder.glob("*.[ct]sv"))
    return f" ({', '.join(found)} is there: name it under ingest.table)" if found else ""
