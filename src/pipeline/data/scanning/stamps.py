"""What the file system says of the files under ``data/images``, without opening one.

A file's stamp is its size, the times of its last writing and of its last change of state, and its
inode. The second time cannot be set back, so that neither ``touch`` nor a file renamed into
another's place goes unseen; following links, it is the stamp of the bytes themselves.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

STAMP = ("bytes", "mtime_ns", "ctime_ns", "inode")

_BATCH = 8192
_SCHEMA = pa.schema([("file_name", pa.string()), *((name, pa.int64()) for name in STAMP)])

_Entry = tuple[str, int, int, int, int]


@dataclass(frozen=True)
class Found:
    """The listed files' stamps, and the names of the others."""

    stamps: NDArray[np.int64]
    """(N, 4) `STAMP` of each listed name in its order; zeros where it names no regular file."""
    unlisted: list[str]
    """Sorted, relative to ``data/``; hidden files are left out, links to nothing are not."""


def find_files(data: Path, listed: pa.Array) -> Found:
    """Look for the files ``listed`` (names relative to ``data``), and for those that are not."""
    unspeakable: list[str] = []
    there = pa.Table.from_batches(_batches(data, unspeakable), _SCHEMA).combine_chunks()
    places = pc.index_in(listed, value_set=there["file_name"].combine_chunks())
    known = np.column_stack([there[name].to_numpy() for name in STAMP])
    absent = places.is_null().to_numpy(zero_copy_only=False)
    stamps = np.zeros((len(listed), len(STAMP)), np.int64)
    stamps[~absent] = known[places.drop_null().to_numpy()]
    for i in np.flatnonzero(absent):  # outside of images/, behind a linked folder, or nowhere
        stamps[i] = _stamp(data / listed[i].as_py())
    others = pc.invert(pc.is_in(there["file_name"], value_set=listed))
    unlisted = [*there["file_name"].filter(others).to_pylist(), *unspeakable]
    visible = [name for name in unlisted if not name.rpartition("/")[2].startswith(".")]
    return Found(stamps, sorted(visible))


def _batches(data: Path, unspeakable: list[str]) -> Iterator[pa.RecordBatch]:
    """Stamps of all files; names that are no UTF-8, which no table can list, go apart."""
    entries = _walk(data / "images")
    while batch := list(islice(entries, _BATCH)):
        if not "".join([entry[0] for entry in batch]).isascii():
            unspeakable += [entry[0] for entry in batch if not _is_text(entry[0])]
            batch = [entry for entry in batch if _is_text(entry[0])]
        columns = zip(*batch, strict=True) if batch else ([] for _ in _SCHEMA)
        arrays = [pa.array(column, f.type) for column, f in zip(columns, _SCHEMA, strict=True)]
        yield pa.record_batch(arrays, schema=_SCHEMA)


def _walk(top: Path) -> Iterator[_Entry]:
    """Every file below ``top``; the folders that are links are not entered."""
    folders = [(str(top), f"{top.name}/")]
    while folders:
        folder, prefix = folders.pop()
        try:
            entries = os.scandir(folder)
        except OSError:
            continue  # unreadable: the files in it that are listed say so
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append((entry.path, f"{prefix}{entry.name}/"))
                    continue
                try:
                    status = entry.stat()
                except OSError:
                    yield (prefix + entry.name, 0, 0, 0, 0)
                    continue
                yield (prefix + entry.name, *_values(status))


def _values(status: os.stat_result) -> tuple[int, int, int, int]:
    if not stat.S_ISREG(status.st_mode):
        return (0, 0, 0, 0)
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _stamp(path: Path) -> tuple[int, int, int, int]:
    try:
        return _values(path.stat())
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return (0, 0, 0, 0)


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
