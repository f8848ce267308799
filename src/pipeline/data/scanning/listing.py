"""``data/metadata.csv``: the table that names the images and what is said about them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.manifest import GIVEN, MEASURED
from pipeline.errors import DataRefused, PipelineError

_TAKEN = {name for name, _ in MEASURED} | {"image_id", "target", "predicted", "correct"}
"""Columns that the pipeline makes itself, here or in a later stage."""

_BLANK = r"^\s*$"
_WHOLE = r"^-?(0|[1-9][0-9]{0,17})$"
_PLAIN_NUMBER = r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?$"
"""What is a number in no other reading: ``007`` is a name, and 16 digits would lose their last."""
_OUTSIDE = r"^\s*$|^/|(^|/)\.\.(/|$)|\x00"
"""File names that are no path inside the folder."""

_ROWS_AT_ONCE = 8192


def read_listing(path: Path) -> pa.Table:
    """Read ``metadata.csv``: `GIVEN`'s columns in their types, then the extra ones.

    Text stays text: a label ``007`` or ``NA`` is just that. An empty cell is null, an empty weight
    1. An extra column is of numbers where every value it has is a plain one, else of text.

    Raises:
        PipelineError: ``path`` is missing.
        DataRefused: it cannot be read as UTF-8 text and as a table that names each file once,
            inside its folder, with weights of at least 0 and no column that the pipeline makes.
    """
    table = _read(path)
    if not len(table):
        raise DataRefused(f"{path}: lists no images; add rows, or run 'python -m pipeline ingest'")
    _check_names(path, table["file_name"])
    known = {name for name, _ in GIVEN}
    listing = {
        "file_name": table["file_name"],
        "label": _text(table, "label"),
        "weight": _weights(path, table),
        "split": _text(table, "split"),
        "group": _text(table, "group"),
    }
    extras = [name for name in table.column_names if name not in known]
    return pa.table(listing | {name: _extra(table[name]) for name in extras})


def _read(path: Path) -> pa.Table:
    """The table as text; its rows pass through Python some thousand at a time."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            _check_header(path, header)
            schema = pa.schema([(name, pa.string()) for name in header])
            rows = _checked(path, header, reader)
            batches = []
            while batch := list(islice(rows, _ROWS_AT_ONCE)):
                columns = [pa.array(column, pa.string()) for column in zip(*batch, strict=True)]
                batches.append(pa.record_batch(columns, schema=schema))
    except FileNotFoundError:
        raise PipelineError(
            f"{path}: missing; run 'python -m pipeline data restore' for the project's data, or"
            " 'python -m pipeline ingest PATH' for your own"
        ) from None
    except UnicodeDecodeError as error:
        raise DataRefused(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataRefused(f"{path}, line {reader.line_num}: {error}; correct the line") from error
    return pa.Table.from_batches(batches, schema).combine_chunks()


def _checked(path: Path, header: list[str], reader: Iterator[list[str]]) -> Iterator[list[str]]:
    for row in reader:
        if len(row) != len(header):
            raise DataRefused(
                f"{path}, line {reader.line_num}: {len(row)} values in a table of"  # type: ignore[attr-defined]
                f" {len(header)} columns ({', '.join(header)}); correct the line"
            )
        yield row


def _check_header(path: Path, header: Sequence[str]) -> None:
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


def _check_names(path: Path, names: pa.ChunkedArray) -> None:
    outside = pc.index(pc.match_substring_regex(names, _OUTSIDE), value=True).as_py()
    if outside >= 0:
        raise DataRefused(
            f"{path}, row {outside + 1}: file_name '{names[outside]}' is no path inside the folder"
            " of the table, such as images/a.png"
        )
    if pc.count_distinct(names).as_py() < len(names):
        seen: set[str] = set()
        for i, name in enumerate(names.to_pylist(), start=1):
            if name in seen:
                raise DataRefused(
                    f"{path}, row {i}: '{name}' is listed twice; keep one of the rows"
                )
            seen.add(name)


def _text(table: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    """The column ``name``, null where it is blank or there is none."""
    if name not in table.column_names:
        return pa.nulls(len(table), pa.string())
    values = table[name]
    return pc.if_else(pc.match_substring_regex(values, _BLANK), None, values)


def _weights(path: Path, table: pa.Table) -> pa.ChunkedArray | pa.Array:
    given = _text(table, "weight")
    try:
        weights = pc.fill_null(pc.cast(pc.utf8_trim_whitespace(given), pa.float64()), 1.0)
    except pa.ArrowInvalid:
        weights = pa.array([_number(value) for value in given.to_pylist()], pa.float64())
    fine = pc.and_(pc.is_finite(weights), pc.greater_equal(weights, 0.0))
    wrong = pc.index(fine, value=False).as_py()
    if wrong >= 0:
        raise DataRefused(
            f"{path}, row {wrong + 1}: weight '{table['weight'][wrong]}' is not a number from 0 up;"
            " correct it"
        )
    return weights


def _number(value: str | None) -> float:
    try:
        return 1.0 if value is None else float(value)
    except ValueError:
        return float("nan")


def _extra(values: pa.ChunkedArray) -> pa.ChunkedArray:
    empty = pc.equal(values, "")
    given = values.filter(pc.invert(empty))
    if not len(given):
        return pc.if_else(empty, None, values)
    if len(given) == len(values) and pc.all(pc.match_substring_regex(given, _WHOLE)).as_py():
        return pc.cast(values, pa.int64())
    without_empty = pc.if_else(empty, None, values)
    if pc.all(pc.match_substring_regex(given, _PLAIN_NUMBER)).as_py():
        return pc.cast(without_empty, pa.float64())
    return without_empty
