"""Tables in text files, read as text: a label ``007`` or ``NA`` stays what it is."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.sources.source import is_text
from pipeline.errors import DataRefused
from pipeline.params import TableParams


@dataclass(frozen=True)
class Table:
    columns: dict[str, list[str]]
    lines: list[int]
    """The line of each row, counted from 1."""


def read_table(path: Path, params: TableParams | None) -> Table:
    """Read ``path``; without ``params`` it is comma-separated and its first line names the columns.

    Raises:
        DataRefused: it is not UTF-8 text, lacks a name for a column, or a line has another number
            of values than there are columns.
    """
    rows = _rows(path, params.separator if params else ",")
    names = params.columns if params else None
    if names is None:
        _, header = next(rows, (1, []))
        names = tuple(header)
    _check_header(path, names)
    cells: list[list[str]] = [[] for _ in names]
    lines: list[int] = []
    for line, row in rows:
        if len(row) != len(names):
            raise DataRefused(
                f"{path}, line {line}: {len(row)} values, expected {len(names)}"
                f" ({', '.join(names)}); correct the line, or ingest.table in params.yaml"
            )
        for column, value in zip(cells, row, strict=True):
            column.append(value)
        lines.append(line)
    return Table(dict(zip(names, cells, strict=True)), lines)


def _rows(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The line number and the values of each line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if separator == "whitespace":
                for line, text in enumerate(file, start=1):
                    if values := text.split():
                        yield line, values
                return
            reader = csv.reader(file, delimiter=separator, strict=True)
            try:
                for values in reader:
                    if values:
                        yield reader.line_num, values
            except csv.Error as error:
                raise DataRefused(
                    f"{path}, line {reader.line_num}: {error}; correct the line"
                ) from error
    except UnicodeDecodeError as error:
        raise DataRefused(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error


def _check_header(path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if not name.strip() or not is_text(name) or names.count(name) > 1:
            raise DataRefused(
                f"{path}: the column name {name!r} is empty, unprintable or there twice;"
                " give each column a name of its own"
            )
    if len(names) == 1:
        others = [mark for mark in (";", "\t", "|") if mark in names[0]]
        if others:
            raise DataRefused(
                f"{path}: one column {names[0]!r}; it seems to be separated by {others[0]!r}:"
                " write it with commas, or name the separator under ingest.table in params.yaml"
            )
