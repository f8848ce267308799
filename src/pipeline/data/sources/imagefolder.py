"""A folder whose images a table names: ``metadata.csv`` (Hugging Face's ``imagefolder`` layout), or
any text table that ``ingest.table`` describes. The layout of ``data/`` itself is one, so another
project's version can be read; its ``classes.json`` then keeps the order of the classes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path, PurePosixPath

from pipeline.data.sources.source import (
    Listing,
    Request,
    check_folder,
    inside,
    safe_name,
    walk,
)
from pipeline.data.sources.table import Table, read_table
from pipeline.errors import ConfigurationError, DataRefused, did_you_mean
from pipeline.params import TableParams

FORM = "a folder with metadata.csv (file_name,label,…)"

METADATA = "metadata.csv"


def claims(request: Request) -> bool:
    return _table(request) is not None


def _table(request: Request) -> tuple[str, TableParams | None] | None:
    """The name of the table and how it is read; ``None``: the folder has none."""
    if not request.folder.is_dir():
        return None
    if request.configured and request.table:
        return request.table.file, request.table
    if (request.folder / METADATA).is_file():
        return METADATA, None
    if request.table and (request.folder / request.table.file).is_file():
        return request.table.file, request.table
    return None


def read(request: Request) -> Listing:
    """List what the table names.

    Raises:
        ConfigurationError: the table that ``ingest.table.file`` names is missing.
        DataRefused: it cannot be read, has no column ``file_name``, names no image, one twice, one
            that is missing, or one outside the folder.
    """
    folder = check_folder(request)
    file, params = _table(request) or (METADATA, None)
    if not (folder / safe_name(file, "params.yaml: ingest.table.file")).is_file():
        beside = [path.name for path in folder.iterdir()]
        raise ConfigurationError(
            f"params.yaml: ingest.table.file: {request.shown} has no '{file}'"
            + (did_you_mean(file, beside) or "; name its table, or null for class folders")
        )
    table = read_table(folder / file, params)
    columns = table.columns
    if "file_name" not in columns:
        raise DataRefused(
            f"{folder / file}: no column 'file_name', only {', '.join(columns)}"
            + (did_you_mean("file_name", columns) or "; name it so")
        )
    names = _file_names(folder, file, table)
    skipped: Counter[str] = Counter()
    skipped["images that the table does not name"] = sum(
        name not in names for name in walk(folder, skipped)
    )
    del skipped["files that are no images by their names"]  # the table among them, as expected
    return Listing(
        folder=folder,
        columns=columns | {"file_name": list(names)},
        origin=file,
        lines=table.lines,
        classes=_frozen_classes(folder),
        skipped=+skipped,
    )


def _file_names(folder: Path, file: str, table: Table) -> dict[str, int]:
    """Each row's file to its line, in the table's order."""
    names: dict[str, int] = {}
    missing: list[str] = []
    resolved: dict[Path, bool] = {}
    for raw, line in zip(table.columns["file_name"], table.lines, strict=True):
        place = f"{folder / file}, line {line}"
        name = safe_name(raw, place)
        if name in names:
            raise DataRefused(
                f"{place}: '{name}' is listed twice, first in line {names[name]};"
                " keep one of the rows"
            )
        names[name] = line
        if not inside(folder / name, folder, resolved).is_file():
            missing.append(f"'{name}' (line {line}{_near(folder / name)})")
    if not names:
        raise DataRefused(f"{folder / file}: no rows; a table names an image in each row")
    if missing:
        more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
        raise DataRefused(
            f"{folder / file}: {len(missing):,} of {len(names):,} files are missing:"
            f" {', '.join(missing[:5])}{more}; add the files, or remove the rows"
        )
    return names


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f", no folder '{PurePosixPath(path.parent).name}'"
    return did_you_mean(path.name, (p.name for p in path.parent.iterdir())).replace("; ", ", ")


def _frozen_classes(folder: Path) -> tuple[str, ...] | None:
    """The order in ``classes.json``, where such a file lies beside the table."""
    path = folder / "classes.json"
    if not path.is_file():
        return None
    try:
        classes = json.loads(path.read_text(encoding="utf-8"))["classes"]
        if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
            raise TypeError(f"classes is {classes!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise DataRefused(
            f'{path}: expected {{"classes": ["name", …]}} ({error}); correct or remove it'
        ) from error
    return tuple(classes)
