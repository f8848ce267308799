"""A folder whose images a table names: ``metadata.csv``, ``.jsonl`` or ``.parquet`` (Hugging Face's
``imagefolder`` layout, also with one for each split), or any text table that ``ingest.table``
describes. The layout of ``data/`` itself is one, so another project's version can be read; its
``classes.json`` then keeps the order of the classes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from pipeline.data.manifest import split_of
from pipeline.data.sources.names import safe_name
from pipeline.data.sources.source import (
    Listing,
    Request,
    check_folder,
    is_system,
    walk,
)
from pipeline.data.sources.table_listing import list_table
from pipeline.errors import ConfigurationError, DataRefused, did_you_mean
from pipeline.params import TableParams

FORM = "a folder with metadata.csv, .jsonl or .parquet (file_name,label,…), or one for each split"

METADATA = tuple(f"metadata.{kind}" for kind in ("csv", "jsonl", "parquet"))


def claims(request: Request) -> bool:
    if not request.folder.is_dir():
        return False
    return _table(request) is not None or bool(_split_tables(request.folder))


def read(request: Request) -> Listing:
    """List what the table names, or the tables of all splits.

    Where file names begin with the folder of a split and no column says so, they say the split.

    Raises:
        ConfigurationError: the table that ``ingest.table.file`` names is missing.
        DataRefused: a table cannot be used (`table_listing.list_table`), or there are two.
    """
    folder = check_folder(request)
    found = _table(request)
    if found is None:
        listing = _read_splits(request, folder)
    else:
        file, params = found
        _check_there(request, folder, file)
        listing = _with_splits(list_table(request, folder, file, params))
    skipped: Counter[str] = Counter()
    names = set(listing.columns["file_name"])
    skipped["images that the table does not name"] = sum(
        name not in names for name in walk(folder, skipped)
    )
    del skipped["files that are no images by their names"]  # the table among them, as expected
    return dataclasses.replace(listing, skipped=+skipped)


def _table(request: Request) -> tuple[str, TableParams | None] | None:
    """The name of the table and how it is read; ``None``: the folder has none of its own."""
    if request.configured and request.table:
        return request.table.file, request.table
    if name := _metadata(request.folder, request.shown):
        return name, None
    if request.table and (request.folder / request.table.file).is_file():
        return request.table.file, request.table
    return None


def _metadata(folder: Path, shown: str) -> str | None:
    there = [name for name in METADATA if (folder / name).is_file()]
    if len(there) > 1:
        raise DataRefused(f"{shown}: has {' and '.join(there)}; keep one of them")
    return there[0] if there else None


def _check_there(request: Request, folder: Path, file: str) -> None:
    if not (folder / safe_name(file, "params.yaml: ingest.table.file")).is_file():
        beside = [path.name for path in folder.iterdir()]
        raise ConfigurationError(
            f"params.yaml: ingest.table.file: {request.shown} has no '{file}'"
            + (did_you_mean(file, beside) or "; name its table, or null for class folders")
        )


def _split_tables(folder: Path) -> list[str]:
    """The folders of splits, where each has a table of its own."""
    inner = sorted(p.name for p in folder.iterdir() if p.is_dir() and not is_system(p.name))
    if inner and all(split_of(name) and _metadata(folder / name, name) for name in inner):
        return inner
    return []


def _read_splits(request: Request, folder: Path) -> Listing:
    """The tables of all splits as one: a column that one of them lacks is empty there."""
    parts: list[Listing] = []
    for name in _split_tables(folder):
        inner = dataclasses.replace(request, shown=f"{request.shown.rstrip('/')}/{name}")
        table = _metadata(folder / name, inner.shown) or METADATA[0]
        part = list_table(inner, folder / name, table, None)
        size = len(part.columns["file_name"])
        own = {
            "file_name": [f"{name}/{file}" for file in part.columns["file_name"]],
            "split": part.columns.get("split", [split_of(name) or ""] * size),
        }
        parts.append(dataclasses.replace(part, columns=part.columns | own))
    columns = dict.fromkeys(column for part in parts for column in part.columns)
    return Listing(
        folder=folder,
        columns={
            column: [
                value
                for part in parts
                for value in part.columns.get(column, [""] * len(part.columns["file_name"]))
            ]
            for column in columns
        },
        origin="the tables of its splits",
        shown=request.shown,
    )


def _with_splits(listing: Listing) -> Listing:
    """``listing`` with the splits that its file names begin with, if all of them do."""
    tops = [name.partition("/") for name in listing.columns["file_name"]]
    splits = [split_of(top) if slash else None for top, slash, _ in tops]
    if "split" in listing.columns or not all(splits):
        return listing
    named = {"split": [split or "" for split in splits]}
    return dataclasses.replace(listing, columns=listing.columns | named)
