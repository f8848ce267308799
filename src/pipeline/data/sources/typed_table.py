"""Tables whose values have types, JSON lines and Parquet, turned into text.

Numbers of JSON keep their digits. Of Parquet, whole numbers are decimal, fractions the shortest
text that reads back as the same number, times ISO 8601. Truth is ``true`` or ``false``, and
nothing, or a number that is none, is an empty cell. Lists and objects are refused.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pipeline.data.sources.table import Row
from pipeline.errors import DataRefused

_BATCH = 10_000


class _Number(str):
    """A number as the text it was written as."""


def json_rows(path: Path, shown: str) -> tuple[list[str], Iterator[Row]]:
    """The columns and rows of JSON lines. A key that an object lacks is an empty cell.

    Raises:
        DataRefused: a line is no object, names a key twice, or has a nested value.
    """
    names: dict[str, None] = {}
    for _, values in _objects(path, shown):
        names |= dict.fromkeys(values)
        if len(names) > 1_000:
            raise DataRefused(f"{shown}: more than 1,000 different keys; is it a table at all?")
    columns = list(names)
    rows = (
        (line, [found.get(name, "") for name in columns]) for line, found in _objects(path, shown)
    )
    return columns, rows


def _objects(path: Path, shown: str) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line, text in enumerate(file, start=1):
                if text.strip():
                    yield line, json_object(text, f"{shown}, line {line}")
    except UnicodeError as error:
        raise DataRefused(f"{shown}: not UTF-8 text ({error}); save it as UTF-8") from error


def json_object(text: str | bytes, place: str, *, nested: bool = False) -> dict[str, str]:
    """The values of one JSON object as text. With ``nested``, lists and objects are left out.

    Raises:
        DataRefused: it is none, names a key twice, or has a nested value.
    """
    try:
        found = json.loads(
            text,
            parse_float=_Number,
            parse_int=_Number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique,
        )
    except (ValueError, RecursionError) as error:
        raise DataRefused(f"{place}: no JSON object ({error}); correct it") from error
    if not isinstance(found, dict):
        raise DataRefused(f"{place}: expected one object {{…}} a line, found {str(found)[:60]!r}")
    for key in [key for key, value in found.items() if isinstance(value, list | dict)]:
        if not nested:
            raise DataRefused(
                f"{place}: {key} is a list or an object; a cell holds one value: write its parts"
                " to columns of their own"
            )
        del found[key]
    return {key: _text(value) for key, value in found.items()}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def parquet_rows(path: Path, shown: str) -> tuple[list[str], Iterator[Row]]:
    """The columns and rows of a Parquet file; a row's "line" is its number.

    Raises:
        DataRefused: it is damaged, or a column is not of single values.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        fields = [field for field in file.schema_arrow if not _is_index(field.name)]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataRefused(f"{shown}: no Parquet file ({error}); write it anew") from error
    for field in fields:
        if pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
            raise DataRefused(
                f"{shown}: the column '{field.name}' holds {field.type}; a cell holds one value:"
                " leave the column out, or write its parts to columns of their own"
            )
    names = [field.name for field in fields]

    def rows() -> Iterator[Row]:
        line = 0
        try:
            for batch in file.iter_batches(_BATCH, columns=names):
                for values in zip(*map(_texts, batch.columns), strict=True):
                    line += 1
                    yield line, list(values)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataRefused(f"{shown}: damaged ({error}); write it anew") from error

    return names, rows()


def _is_index(name: str) -> bool:
    """Whether pandas made the column from row numbers."""
    return re.fullmatch(r"__index_level_\d+__", name) is not None


def _texts(column: Any) -> list[str]:
    """The values of a PyArrow array; those of 32 bits and fewer keep their own few digits."""
    values = column.to_pylist()
    if str(column.type) in {"float", "halffloat"}:
        kind = np.float32 if str(column.type) == "float" else np.float16
        return ["" if v is None or math.isnan(v) else str(kind(v)) for v in values]
    return [_text(value) for value in values]


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    return str(value)
