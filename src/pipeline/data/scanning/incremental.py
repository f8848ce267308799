"""The measures of all listed files: what the last scan knows of those that have not changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.console import progress
from pipeline.data.manifest import GIVEN, MEASURED
from pipeline.data.scanning.duplicates import Known, exact_clusters, near_clusters
from pipeline.data.scanning.fingerprint import FINGERPRINT_BYTES
from pipeline.data.scanning.measure import UNCHANGED, without_reading
from pipeline.data.scanning.parallel import Pool, Result, Row, Setting, Task
from pipeline.data.scanning.scan_cache import FingerprintFile, Remembered, ScanCache
from pipeline.data.scanning.stamps import STAMP, find_files
from pipeline.data.scanning.worker import COLUMNS, row_of

_TYPES = dict((*GIVEN, *MEASURED))
_READ = pa.schema(
    [*((name, _TYPES.get(name, pa.int64())) for name in COLUMNS), ("row", pa.int64())]
)
_PIXELS = ["file_name", "pixel_hash", "phash"]  # the clusters follow from them
_CLUSTERS = ["duplicate_cluster", "near_cluster"]

REMEMBERED = pa.schema([*_READ, *((name, pa.int64()) for name in _CLUSTERS)])
"""The columns of the cache; ``row`` is the place of an image's fingerprint in its file."""

_ROWS_AT_ONCE = 4096
_STATUS, _PHASH = COLUMNS.index("status"), COLUMNS.index("phash")

Places = NDArray[np.int64]


class Measured(NamedTuple):
    """The files that are listed, and those that are not."""

    table: pa.Table
    """`REMEMBERED`'s columns, a row for each listed name in its order."""
    unlisted: list[str]
    """As in `stamps.Found`."""


def measure_listed(
    setting: Setting, names: pa.Array, cache: ScanCache, *, workers: int | None = None
) -> Measured:
    """Measure the files ``names`` of ``setting.folder``, which are sorted and each there once.

    Files are read in other processes, and only those that are new or changed since the scan that
    ``cache`` remembers; where there are none, no process is started. What was read before an
    exception is remembered too.
    """
    old = cache.load(REMEMBERED)
    with Pool(setting, workers) as pool:
        pool.start(_unknown(names, old))  # they get ready while this process looks at the files
        found = find_files(setting.folder, names)
        return Measured(_measure(pool, setting, names, found.stamps, cache, old), found.unlisted)


def _unknown(names: pa.Array, old: Remembered | None) -> int:
    """How many of ``names`` the last scan did not have."""
    if old is None:
        return len(names)
    known = pc.is_in(names, value_set=old.table["file_name"].combine_chunks())
    return len(names) - int(pc.sum(known).as_py() or 0)


def _measure(
    pool: Pool,
    setting: Setting,
    names: pa.Array,
    stamps: NDArray[np.int64],
    cache: ScanCache,
    old: Remembered | None,
) -> pa.Table:
    places, fresh = _places(names, stamps, old)
    settled, todo = _settle(setting, names, stamps, fresh)
    if old is not None and not len(todo):
        table = _sorted([_carried(old.table, places, fresh), settled])
        if _same_pixels(table, old.table):
            table = table.set_column(_READ.get_field_index("row"), "row", old.table["row"])
            table = _joined(table, old.table.select(_CLUSTERS))
            if not table.equals(old.table):
                cache.save(table, old, old.proposals)
            return table
    kept = None if old is None else old.fingerprints()
    if old is not None and kept is None:  # the file is damaged: all is read
        return _measure(pool, setting, names, stamps, cache, None)
    tasks = _tasks(names, todo, places, old)
    with cache.new_fingerprints(len(names)) as file:
        results = pool.measure(tasks, len(todo))
        gathered = _Gathered(old, kept, places, file)
        gathered.carry_over(fresh)  # while the processes are at work
        gathered.tables.append(settled)
        try:
            gathered.add_all(results, len(todo))
            table = gathered.sorted()
            if old is not None and _same_pixels(table, old.table):
                table, proposals = _joined(table, old.table.select(_CLUSTERS)), old.proposals
            else:
                table, proposals = _clustered(table, file.load(), old)
        except BaseException:
            if len(read := gathered.sorted()):
                cache.save(_without_clusters(read), file, None)
            raise
        cache.save(table, file, proposals)
    return table


def _places(
    names: pa.Array, stamps: NDArray[np.int64], old: Remembered | None
) -> tuple[Places, NDArray[np.bool_]]:
    """Where ``old`` has each name, or -1; and whether the file's stamp is what it was."""
    if old is None:
        return np.full(len(names), -1), np.zeros(len(names), bool)
    found = pc.index_in(names, value_set=old.table["file_name"].combine_chunks())
    places: Places = pc.fill_null(found, -1).to_numpy().astype(np.int64)
    before = np.column_stack([pc.fill_null(old.table[name], -1).to_numpy() for name in STAMP])
    fresh = (places >= 0) & (stamps[:, -1] > 0) & (before[places] == stamps).all(axis=1)
    return places, fresh


def _settle(
    setting: Setting, names: pa.Array, stamps: NDArray[np.int64], fresh: NDArray[np.bool_]
) -> tuple[pa.Table, Places]:
    """The rows of names that are no files, and the numbers of the files that have to be read."""
    todo = ~fresh
    numbers, rows = [], []
    for i in np.flatnonzero(stamps[:, -1] == 0).tolist():
        measures = without_reading(setting.folder, names[i].as_py())
        if measures is not None:
            todo[i] = False
            numbers.append(i)
            rows.append(row_of(measures))
    return _table(numbers, rows), np.flatnonzero(todo)


def _tasks(names: pa.Array, todo: Places, places: Places, old: Remembered | None) -> Iterator[Task]:
    """What to read; with the content that it had, where that alone would tell the rest."""
    for start in range(0, len(todo), _ROWS_AT_ONCE):
        chosen = todo[start : start + _ROWS_AT_ONCE]
        contents: list[str | None] = [None] * len(chosen)
        if old is not None:
            before = old.table.take(pa.array(places[chosen], mask=places[chosen] < 0))
            certain = before["inode"].is_valid()
            contents = pc.if_else(certain, before["sha256"], None).to_pylist()
        yield from map(Task, chosen.tolist(), names.take(chosen).to_pylist(), contents)


class _Gathered:
    """The rows and fingerprints of this scan, as they come."""

    def __init__(
        self,
        old: Remembered | None,
        kept: NDArray[np.uint8] | None,
        places: Places,
        file: FingerprintFile,
    ) -> None:
        self.tables: list[pa.Table] = []
        self._old, self._kept, self._places, self._file = old, kept, places, file
        self._numbers: list[int] = []
        self._rows: list[Row] = []
        self._unchanged: list[int] = []
        self._stamps: list[Row] = []

    def carry_over(self, fresh: NDArray[np.bool_]) -> None:
        """Take the rows of the files that are ``fresh`` from the last scan."""
        if self._old is None or self._kept is None:
            return
        self.tables.append(_carried(self._old.table, self._places, fresh))
        numbers = np.flatnonzero(fresh)
        rows = self._old.table["row"].to_numpy()[self._places[numbers]]
        self._keep(numbers, rows)

    def add_all(self, results: Iterator[Result], count: int) -> None:
        """Gather ``results``, of ``count`` files in all, and show how far that is."""
        if not count:
            return
        with progress("scan", count) as shown:
            for result in results:
                self._add(result)
                shown.advance(len(result.rows))

    def _add(self, result: Result) -> None:
        seen = []
        for number, row in zip(result.numbers, result.rows, strict=True):
            if row[_STATUS] == UNCHANGED:
                self._unchanged.append(number)
                self._stamps.append(row)
                continue
            self._numbers.append(number)
            self._rows.append(row)
            if row[_PHASH] is not None:
                seen.append(number)
        self._write(seen, memoryview(result.fingerprints))
        if len(self._rows) >= _ROWS_AT_ONCE or len(self._unchanged) >= _ROWS_AT_ONCE:
            self._flush()

    def _keep(self, numbers: Places, rows: Places) -> None:
        """Copy the fingerprints ``rows`` of the last scan, those that follow each other at once."""
        if self._kept is None:
            return
        breaks = np.flatnonzero((np.diff(numbers) != 1) | (np.diff(rows) != 1)) + 1
        starts, ends = [0, *breaks.tolist()], [*breaks.tolist(), len(numbers)]
        for start, end in zip(starts, ends, strict=True):
            if start < end:
                kept = self._kept[rows[start] : rows[start] + end - start]
                self._file.write(int(numbers[start]), kept.data)

    def _write(self, numbers: list[int], fingerprints: memoryview) -> None:
        """Write the fingerprints of ``numbers``, those that follow each other at once."""
        start = 0
        for end, number in enumerate(numbers, start=1):
            if end < len(numbers) and numbers[end] == number + 1:
                continue
            part = slice(start * FINGERPRINT_BYTES, end * FINGERPRINT_BYTES)
            self._file.write(numbers[start], fingerprints[part])
            start = end

    def sorted(self) -> pa.Table:
        """All rows so far, in the order of their numbers."""
        self._flush()
        self.tables = [_sorted(self.tables)]
        return self.tables[0]

    def _flush(self) -> None:
        self.tables.append(_table(self._numbers, self._rows))
        if self._unchanged and self._old is not None and self._kept is not None:
            numbers = np.array(self._unchanged)
            places = self._places[numbers]
            table = self._old.table.take(places).select(_READ.names)
            new = _table(self._unchanged, self._stamps)
            for name in (*STAMP, "row"):
                table = table.set_column(_READ.get_field_index(name), _READ.field(name), new[name])
            self.tables.append(table)
            self._keep(numbers, self._old.table["row"].to_numpy()[places])
        self._numbers, self._rows, self._unchanged, self._stamps = [], [], [], []


def _carried(old: pa.Table, places: Places, fresh: NDArray[np.bool_]) -> pa.Table:
    """The rows of ``old`` for the names that are ``fresh``."""
    table = old.take(places[fresh]).select(_READ.names)
    numbers = pa.array(np.flatnonzero(fresh), pa.int64())
    return table.set_column(_READ.get_field_index("row"), _READ.field("row"), numbers)


def _table(numbers: Sequence[int], rows: Sequence[Sequence[object]]) -> pa.Table:
    columns = [*zip(*rows, strict=True), numbers] if rows else [[] for _ in _READ]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, _READ.types, strict=True)]
    return pa.table(arrays, schema=_READ)


def _sorted(tables: list[pa.Table]) -> pa.Table:
    table = pa.concat_tables(tables)
    return table.take(np.argsort(table["row"].to_numpy())).combine_chunks()


def _same_pixels(table: pa.Table, old: pa.Table) -> bool:
    clustered = not any(old[name].null_count for name in _CLUSTERS)
    return clustered and table.select(_PIXELS).equals(old.select(_PIXELS))


def _clustered(
    table: pa.Table, fingerprints: NDArray[np.uint8], old: Remembered | None
) -> tuple[pa.Table, int | None]:
    exact = exact_clusters(table["pixel_hash"].to_pylist())
    known = None if old is None else known_clusters(table["pixel_hash"], old)
    near = near_clusters(table["phash"].to_pylist(), fingerprints, exact, known)
    clusters = pa.table(dict(zip(_CLUSTERS, (exact, near.clusters), strict=True)))
    return _joined(table, clusters), near.proposals


def known_clusters(pixel_hashes: pa.ChunkedArray, old: Remembered) -> Known | None:
    """What ``old`` says about near duplicates of the pixels that it has seen."""
    clusters = old.table["near_cluster"]
    if old.proposals is None or clusters.null_count:
        return None
    there = old.table["pixel_hash"].combine_chunks()
    before: NDArray[np.int64] = clusters.to_numpy()
    gone = pc.invert(pc.is_in(there, value_set=pixel_hashes.combine_chunks()))
    torn = before[gone.to_numpy(zero_copy_only=False)]
    places = pc.index_in(pixel_hashes, value_set=there, skip_nulls=True)
    found = places.is_valid().to_numpy()
    known = np.full(len(pixel_hashes), -1)
    known[found] = before[pc.drop_null(places).to_numpy()]
    known[np.isin(known, torn)] = -1
    return Known(known, old.proposals)


def _without_clusters(table: pa.Table) -> pa.Table:
    missing = pa.nulls(len(table), pa.int64())
    return _joined(table, pa.table(dict.fromkeys(_CLUSTERS, missing)))


def _joined(table: pa.Table, clusters: pa.Table) -> pa.Table:
    for name in _CLUSTERS:
        table = table.append_column(name, clusters[name])
    return table.cast(REMEMBERED)
