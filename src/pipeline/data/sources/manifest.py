"""A table file as the address; its column ``file_name`` is relative to the table."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from pipeline.data.sources.source import IMAGE_SUFFIXES, TABLE_SUFFIXES, Listing, Request, is_system
from pipeline.data.sources.table_listing import list_table

FORM = "a table of file_name,label,… as CSV, TSV, JSON lines or Parquet"


def claims(request: Request) -> bool:
    path = request.folder
    return path.suffix.lower() in TABLE_SUFFIXES and path.is_file()


def read(request: Request) -> Listing:
    """List what the table names, which is never outside the folder it lies in.

    Raises:
        DataRefused: see `table_listing.list_table`.
    """
    path = request.folder.resolve()
    own = request.table if request.configured and request.table else None
    params = own if own and own.file == path.name else None
    listing = list_table(request, path.parent, path.name, params)
    return dataclasses.replace(listing, skipped=_unnamed(listing))


def _unnamed(listing: Listing) -> Counter[str]:
    """The images beside the named ones: what else lies around a table is none of its business."""
    names = set(listing.columns["file_name"])
    folders = {Path(name).parent for name in names}
    unnamed = sum(
        (folder / path.name).as_posix() not in names
        for folder in folders
        for path in (listing.folder / folder).iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not is_system(path.name)
    )
    return +Counter({"images that the table does not name": unnamed})
