"""The images that a table names, one a row, below the folder the table lies in."""

from __future__ import annotations

import itertools
import json
import unicodedata
from pathlib import Path, PurePosixPath

from pipeline.data.sources.names import inside, safe_name
from pipeline.data.sources.source import Listing, Request, table_name
from pipeline.data.sources.table import Table, read_table
from pipeline.errors import DataRefused, did_you_mean
from pipeline.params import TableParams

_COMPARED = 10_000
"""Names of a folder among which one is looked for that a missing file may have been meant by."""


def list_table(request: Request, folder: Path, file: str, params: TableParams | None) -> Listing:
    """List what the table ``file`` in ``folder``, a resolved path, names.

    Raises:
        DataRefused: it cannot be read, has no column ``file_name``, names no image, one twice, one
            that is missing, or one outside the folder.
    """
    shown = table_name(request.shown, file)
    table = read_table(folder / file, params, shown=shown, most_rows=request.limits.files)
    columns = table.columns
    if "file_name" not in columns:
        raise DataRefused(
            f"{shown}: no column 'file_name', only {', '.join(columns)}"
            + (did_you_mean("file_name", columns) or "; name it so")
        )
    names = _file_names(folder, shown, table)
    return Listing(
        folder=folder,
        columns=columns | {"file_name": names},
        origin=file,
        lines=table.lines,
        classes=_frozen_classes(folder, request.shown),
        shown=request.shown,
    )


def named_files(table: Table, shown: str) -> dict[str, int]:
    """Each row's file, in its shortest form, to its line; in the table's order.

    Raises:
        DataRefused: a name is no path inside a folder, is there twice, or there is none.
    """
    names: dict[str, int] = {}
    for raw, line in zip(table.columns["file_name"], table.lines, strict=True):
        place = f"{shown}, line {line}"
        name = safe_name(raw, place)
        if name in names:
            raise DataRefused(
                f"{place}: '{name}' is listed twice, first in line {names[name]};"
                " keep one of the rows"
            )
        names[name] = line
    if not names:
        raise DataRefused(f"{shown}: no rows; a table names an image in each row")
    return names


def _file_names(folder: Path, shown: str, table: Table) -> list[str]:
    names = named_files(table, shown)
    resolved: dict[Path, bool] = {}
    files = [_file(folder, name, resolved) for name in names]
    present = [file for file in files if file is not None]
    if len(present) < len(names):
        missing = [name for name, file in zip(names, files, strict=True) if file is None]
        first = [f"'{name}' (line {names[name]}{_near(folder / name)})" for name in missing[:5]]
        more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
        raise DataRefused(
            f"{shown}: {len(missing):,} of {len(names):,} files are missing:"
            f" {', '.join(first)}{more}; add the files, or remove the rows"
        )
    return present


def _file(folder: Path, name: str, resolved: dict[Path, bool]) -> str | None:
    """The file that is meant, whichever way its accents are written; ``None`` if there is none."""
    forms = [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
    return next((n for n in forms if inside(folder / n, folder, resolved).is_file()), None)


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f", no folder '{PurePosixPath(path.parent).name}'"
    names = (p.name for p in itertools.islice(path.parent.iterdir(), _COMPARED))
    return did_you_mean(path.name, names).replace("; ", ", ")


def _frozen_classes(folder: Path, shown: str) -> tuple[str, ...] | None:
    """The order in ``classes.json``, where such a file lies beside the table."""
    path = folder / "classes.json"
    if not path.is_file():
        return None
    try:
        classes = json.loads(path.read_text(encoding="utf-8"))["classes"]
        if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
            raise TypeError(f"classes is {classes!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataRefused(
            f'{shown}: classes.json: expected {{"classes": ["name", …]}} ({error}); correct or'
            " remove it"
        ) from error
    return tuple(classes)
