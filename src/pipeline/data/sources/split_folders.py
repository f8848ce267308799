"""Class folders for each split: ``FOLDER/train/CLASS/…/image.png``, ``FOLDER/val/…``."""

from __future__ import annotations

from collections import Counter

from pipeline.data.manifest import split_of
from pipeline.data.sources.class_folders import check_classes, class_images, inner_folders
from pipeline.data.sources.source import Listing, Request, check_folder
from pipeline.errors import DataRefused

FORM = "a folder with train, val and test, each with class folders"


def claims(request: Request) -> bool:
    """All folders are named for splits, so none for a class.

    Raises:
        DataRefused: some are, and hold class folders, and others are not.
    """
    if not request.folder.is_dir():
        return False
    folders = inner_folders(request.folder)
    splits = [name for name in folders if split_of(name)]
    others = [name for name in folders if not split_of(name)]
    nested = all(inner_folders(request.folder / name) for name in splits)
    if others and len({split_of(name) for name in splits}) > 1 and nested:
        raise DataRefused(
            f"{request.shown}: {', '.join(splits)} hold class folders, and beside them is"
            f" {', '.join(others[:3])}{', …' if others[3:] else ''}, which is no split; move it"
            " away, or name one of the folders"
        )
    return bool(splits) and not others


def read(request: Request) -> Listing:
    """List the images of each class folder of each split.

    A class may be absent from a split, but not from all of them.

    Raises:
        DataRefused: there are no images, a class without any, or a link that leaves the folder.
    """
    folder = check_folder(request)
    skipped: Counter[str] = Counter()
    columns: dict[str, list[str]] = {"file_name": [], "label": [], "split": []}
    folders: set[str] = set()
    for name in inner_folders(folder):
        inner = class_images(folder / name, request.shown, skipped)
        columns["file_name"] += [f"{name}/{image}" for image in inner]
        columns["label"] += [image.partition("/")[0] for image in inner]
        columns["split"] += [split_of(name) or ""] * len(inner)
        folders.update(inner_folders(folder / name))
    check_classes(request, set(columns["label"]), folders, skipped)
    return Listing(
        folder=folder,
        columns=columns,
        origin="class folders of splits",
        skipped=skipped,
        shown=request.shown,
    )
