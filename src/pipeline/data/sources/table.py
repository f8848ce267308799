"""Tables of any kind, read as text: a label ``007`` or ``NA`` stays what it is."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.sources.names import is_text
from pipeline.errors import DataRefused
from pipeline.params import TableParams

_MOST_COLUMNS = 1_000
_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_BOMS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class Table:
    columns: dict[str, list[str]]
    lines: list[int]
    """The line of each row, or its number where the file has no lines; counted from 1."""


Row = tuple[int, list[str]]


def read_table(path: Path, params: TableParams | None, *, shown: str, most_rows: int) -> Table:
    """Read ``path``, called ``shown`` in messages, by its suffix: JSON lines, Parquet, else text.

    Without ``params`` the first line of a text table names the columns, and the separator is the
    one that makes a column ``file_name`` of it.

    Raises:
        DataRefused: it is damaged, in no known encoding, lacks a name for a column, has lists or
            objects for values, a row with another number of values than there are columns, or
            more than ``most_rows`` rows.
    """
    suffix = path.suffix.lower()
    if params is None and suffix in {".jsonl", ".ndjson", ".parquet"}:
        from pipeline.data.sources import typed_table  # PyArrow, which a text table does not need

        reader = typed_table.parquet_rows if suffix == ".parquet" else typed_table.json_rows
        names, rows = reader(path, shown)
    else:
        names, rows = _text_rows(path, params, shown)
    _check_header(shown, names)
    if params is not None:
        remedy = "correct the line, or ingest.table in params.yaml"
    elif "file_name" not in names:
        remedy = "the first line has to name the columns, file_name and label among them"
    else:
        remedy = "correct the line"
    return _collect(names, rows, shown, most_rows, remedy)


def _collect(
    names: list[str], rows: Iterable[Row], shown: str, most_rows: int, remedy: str
) -> Table:
    cells: list[list[str]] = [[] for _ in names]
    lines: list[int] = []
    for line, row in rows:
        if len(row) != len(names):
            raise DataRefused(
                f"{shown}, line {line}: {len(row)} values, expected {len(names)}"
                f" ({', '.join(names)}); {remedy}"
            )
        for name, column, value in zip(names, cells, row, strict=True):
            if not is_carriable(value):
                raise DataRefused(
                    f"{shown}, line {line}: {name} {value[:60]!r} has a NUL or half a character;"
                    " correct it"
                )
            column.append(value)
        lines.append(line)
        if len(lines) > most_rows:
            raise DataRefused(
                f"{shown}: more than {most_rows:,} rows, the most that ingest.limits.files in"
                " params.yaml allows; raise it if the table is to be trusted"
            )
    return Table(dict(zip(names, cells, strict=True)), lines)


def is_carriable(value: str) -> bool:
    """Whether ``value`` can stand in a UTF-8 text file."""
    if value.isascii():
        return "\0" not in value
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in value)


def _text_rows(
    path: Path, params: TableParams | None, shown: str
) -> tuple[list[str], Iterator[Row]]:
    encoding = _encoding(path, shown)
    separator = params.separator if params else _separator(path, encoding, shown)
    rows = _split_lines(path, encoding, separator, shown)
    if params and params.columns is not None:
        return list(params.columns), rows
    _, header = next(rows, (1, []))
    if not header:
        raise DataRefused(f"{shown}: empty; its first line names the columns")
    return header, rows


def _encoding(path: Path, shown: str) -> str:
    with path.open("rb") as file:
        start = file.read(2)
    if b"\0" in start:
        raise DataRefused(f"{shown}: begins like UTF-16 without its mark; save it as UTF-8")
    return _BOMS.get(start, "utf-8-sig")


def _separator(path: Path, encoding: str, shown: str) -> str:
    """The separator of the first line's names: the one that makes one of them ``file_name``."""
    by_suffix = "\t" if path.suffix.lower() == ".tsv" else ","
    for separator in [by_suffix, *_SEPARATORS]:
        _, names = next(_split_lines(path, encoding, separator, shown), (1, []))
        if "file_name" in names:
            return separator
    return by_suffix


def _split_lines(path: Path, encoding: str, separator: str, shown: str) -> Iterator[Row]:
    """The line number and the values of each line that is not blank."""
    try:
        with path.open(encoding=encoding, newline="") as file:
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
                    f"{shown}, line {reader.line_num}: {error}; correct the line"
                ) from error
    except UnicodeError as error:
        raise DataRefused(
            f"{shown}: neither UTF-8 nor UTF-16 text ({error}); save it as UTF-8"
        ) from error


def _check_header(shown: str, names: list[str]) -> None:
    if len(names) > _MOST_COLUMNS:
        raise DataRefused(f"{shown}: {len(names):,} columns; at most {_MOST_COLUMNS:,} are read")
    known: set[str] = set()
    for name in names:
        if not name.strip() or not is_text(name) or name in known:
            raise DataRefused(
                f"{shown}: the column name {name[:60]!r} is empty, unprintable or there twice;"
                " give each column a name of its own"
            )
        known.add(name)
    if len(names) == 1:
        others = [word for mark, word in _SEPARATORS.items() if mark in names[0]]
        if others:
            raise DataRefused(
                f"{shown}: one column {names[0][:60]!r}; it seems to be separated by {others[0]}:"
                " name the separator under ingest.table in params.yaml, or write it with commas"
            )
