"""Class folders: ``FOLDER/CLASS/…/image.png``; the first folder's name is the label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pipeline.data.sources.names import inside, safe_name
from pipeline.data.sources.source import (
    IMAGE_SUFFIXES,
    TABLE_SUFFIXES,
    Listing,
    Request,
    check_folder,
    is_system,
    walk,
)
from pipeline.errors import DataRefused

FORM = "a folder with a folder of images for each class"


def claims(request: Request) -> bool:
    return request.folder.is_dir()


def read(request: Request) -> Listing:
    """List the images of each class folder.

    Raises:
        DataRefused: there are no images, a class without any, or a link that leaves the folder.
    """
    folder = check_folder(request)
    skipped: Counter[str] = Counter()
    names = class_images(folder, request.shown, skipped)
    labels = [name.partition("/")[0] for name in names]
    check_classes(request, set(labels), inner_folders(folder), skipped)
    return Listing(
        folder=folder,
        columns={"file_name": names, "label": labels},
        origin="class folders",
        skipped=skipped,
        shown=request.shown,
    )


def class_images(folder: Path, shown: str, skipped: Counter[str]) -> list[str]:
    """The images below ``folder``, a resolved path, that lie in a folder of it.

    Raises:
        DataRefused: a link leaves the folder, or a name is no text.
    """
    names: list[str] = []
    resolved: dict[Path, bool] = {}
    for name in walk(folder, skipped):
        if "/" not in name:
            skipped["images beside the class folders"] += 1
            continue
        inside(folder / name, folder, resolved)
        names.append(safe_name(name, shown))
    return names


def check_classes(
    request: Request, labels: set[str], folders: Iterable[str], skipped: Counter[str]
) -> None:
    """See that there are images, and some in each of ``folders``.

    Raises:
        DataRefused: there are none, or none of a class.
    """
    if not labels:
        left_out = skipped + request.skipped + request.refused
        raise DataRefused(
            f"{request.shown}: no images in class folders; expected CLASS/image.png with one of"
            f" {' '.join(sorted(IMAGE_SUFFIXES))}, or a metadata.csv{_tables(request.folder)}"
            + "".join(f"\n  left out: {why} ({count:,})" for why, count in sorted(left_out.items()))
        )
    empty = sorted(set(folders) - labels)
    if empty:
        raise DataRefused(
            f"{request.shown}: no images of the class {', '.join(repr(name) for name in empty)};"
            " put some into the folder, or remove it"
        )


def inner_folders(folder: Path) -> list[str]:
    """The names of the folders in ``folder``, links and those of systems aside."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not path.is_symlink() and not is_system(path.name)
    )


def _tables(folder: Path) -> str:
    found = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)
    return f" ({', '.join(found)} is there: name it under ingest.table)" if found else ""
