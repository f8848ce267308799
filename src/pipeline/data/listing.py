"""``data/metadata.csv``: the table that names the images and what is said about them."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa

from pipeline.data.manifest import GIVEN, MEASURED
from pipeline.errors import DataRefused, PipelineError

_TAKEN = {name for name, _ in MEASURED} | {"image_id", "target", "predicted", "correct"}
"""Columns that the pipeline makes itself, here or in a later stage."""

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_PLAIN_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?")
"""What is a number in no other reading: ``007`` is a name, and 16 digits would lose their last."""


def read_listing(path: Path) -> pa.Table:
    """Read ``metadata.csv``: `GIVEN`'s columns in their types, then the extra ones.

    Text stays text: a label ``007`` or ``NA`` is just that. An empty cell is null, an empty weight
    1. An extra column is of numbers where every value it has is a plain one, else of text.

    Raises:
        PipelineError: ``path`` is missing.
        DataRefused: it cannot be read as UTF-8 text and as a table that names each file once,
            inside its folder, with weights of at least 0 and no column that the pipeline makes.
    """
    header, rows = _rows(path)
    columns: dict[str, Sequence[str]] = dict(
        zip(header, zip(*rows, strict=True), strict=True) if rows else ((n, ()) for n in header)
    )
    names = columns["file_name"]
    if not names:
        raise DataRefused(f"{path}: lists no images; add rows, or run 'python -m pipeline ingest'")
    _check_names(path, names)
    empty = ("",) * len(names)
    table = {
        "file_name": pa.array(names, pa.string()),
        "label": _text(columns["label"]),
        "weight": _weights(path, columns.get("weight", empty)),
        "split": _text(columns.get("split", empty)),
        "group": _text(columns.get("group", empty)),
    }
    known = {name for name, _ in GIVEN}
    table |= {name: _extra(values) for name, values in columns.items() if name not in known}
    return pa.table(table)


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            _check_header(path, header)
            rows = []
            for row in reader:
                if len(row) != len(header):
                    raise DataRefused(
                        f"{path}, line {reader.line_num}: {len(row)} values in a table of"
                        f" {len(header)} columns ({', '.join(header)}); correct the line"
                    )
                rows.append(row)
    except FileNotFoundError:
        raise PipelineError(
            f"{path}: missing; run 'python -m pipeline data restore' for the project's data, or"
            " 'python -m pipeline ingest PATH' for your own"
        ) from None
    except UnicodeDecodeError as error:
        raise DataRefused(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataRefused(f"{path}, line {reader.line_num}: {error}; correct the line") from error
    return header, rows


def _check_header(path: Path, header: list[str]) -> None:
    for name in ("file_name", "label"):
        if name not in header:
            raise DataRefused(
                f"{path}: no column '{name}' in the first line ({', '.join(header) or 'empty'});"
                " a table needs file_name and label"
            )
    for name in header:
        if not name.strip() or header.count(name) > 1:
            raise DataRefused(f"{path}: the column name '{name}' is empty or there twice; name it")
        if name in _TAKEN:
            raise DataRefused(
                f"{path}: the pipeline makes a column '{name}' itself; rename it at its source,"
                f" for example to 'given_{name}', and ingest again"
            )


def _check_names(path: Path, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for i, name in enumerate(names, start=1):
        pure = PurePosixPath(name)
        if not name.strip() or "\0" in name or pure.is_absolute() or ".." in pure.parts:
            raise DataRefused(
                f"{path}, row {i}: file_name '{name}' is no path inside the folder of the table,"
                " such as images/a.png"
            )
        if name in seen:
            raise DataRefused(f"{path}, row {i}: '{name}' is listed twice; keep one of the rows")
        seen.add(name)


def _text(values: Sequence[str]) -> pa.Array:
    return pa.array([value if value.strip() else None for value in values], pa.string())


def _weights(path: Path, values: Sequence[str]) -> pa.Array:
    weights = []
    for i, value in enumerate(values, start=1):
        try:
            weight = float(value) if value.strip() else 1.0
        except ValueError:
            weight = math.nan
        if not (math.isfinite(weight) and weight >= 0.0):
            raise DataRefused(
                f"{path}, row {i}: weight '{value}' is not a number from 0 up; correct it"
            )
        weights.append(weight)
    return pa.array(weights, pa.float64())


def _extra(values: Sequence[str]) -> pa.Array:
    given = [value for value in values if value]
    if given and len(given) == len(values) and all(map(_WHOLE.fullmatch, given)):
        return pa.array(map(int, values), pa.int64(), size=len(values))
    if given and all(map(_PLAIN_NUMBER.fullmatch, given)):
        return pa.array([float(value) if value else None for value in values], pa.float64())
    return pa.array([value or None for value in values], pa.string())
