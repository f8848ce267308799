"""Stage scan: read every image once, and write what it measures into the manifest."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.console import logger, progress
from pipeline.data.duplicates import exact_clusters
from pipeline.data.listing import read_listing
from pipeline.data.manifest import GIVEN, MEASURED, write_table
from pipeline.data.measure import Limits, Measures, measure_files
from pipeline.data.parallel import Chunk, map_files
from pipeline.errors import DataRefused
from pipeline.params import ScanParams
from pipeline.workspace import Workspace

_MEASURES = [field.name for field in fields(Measures)]
_MEASURES_SCHEMA = pa.schema([(n, t) for n, t in (*GIVEN, *MEASURED) if n in set(_MEASURES)])


def scan(workspace: Workspace, params: ScanParams) -> None:
    """Write ``artifacts/manifest.parquet``: a row per listed image, and per unlisted file.

    No file ends the scan: what is wrong with one is its row's ``status`` and ``error``.

    Raises:
        PipelineError, DataRefused: ``data/metadata.csv`` cannot be used; see `read_listing`.
    """
    listing = read_listing(workspace.metadata)
    names = sorted(listing["file_name"].to_pylist())
    limits = Limits(max_bytes=params.max_bytes, max_pixels=params.max_pixels)
    task = functools.partial(measure_files, workspace.data, limits)
    measured = [measure_all(names, task), _unlisted(workspace.data, set(names))]
    manifest = _assemble(listing, pa.concat_tables(measured))
    write_table(workspace.manifest, manifest)
    _summarise(workspace, manifest)


def measure_all(
    names: list[str], task: Callable[[Chunk], list[Measures]], *, workers: int | None = None
) -> pa.Table:
    """Measure the files ``names`` in parallel; rows come in no fixed order."""
    chunks = [_MEASURES_SCHEMA.empty_table()]
    with progress("scan", len(names)) as shown:
        for chunk, measures in map_files(task, names, _crashed, workers=workers):
            chunks.append(_to_table(measures))
            shown.advance(len(chunk))
    return pa.concat_tables(chunks).combine_chunks()


def _crashed(file_name: str) -> list[Measures]:
    extension = os.path.splitext(file_name)[1].lower()  # noqa: PTH122 (as measure_file does)
    error = "reading it ended the process: a broken file, or too little memory for it"
    return [Measures(file_name, extension, "unreadable", error)]


def _to_table(measures: list[Measures]) -> pa.Table:
    columns = {name: [getattr(row, name) for row in measures] for name in _MEASURES}
    return pa.table(columns, schema=_MEASURES_SCHEMA)


def _unlisted(data: Path, listed: set[str]) -> pa.Table:
    """A row for every file under ``data/images`` that the table does not name, hidden ones apart.

    They are neither read nor used.
    """
    rows = []
    for folder, _, files in os.walk(data / "images"):
        for file in files:
            path = Path(folder, file)
            name = path.relative_to(data).as_posix()
            if name in listed or file.startswith("."):
                continue
            readable = os.fsencode(name).decode("utf-8", "backslashreplace")
            error = "not in metadata.csv"
            size = path.lstat().st_size
            rows.append(Measures(readable, path.suffix.lower(), "unlisted", error, size))
    return _to_table(rows)


def _assemble(listing: pa.Table, measured: pa.Table) -> pa.Table:
    """One row per file, sorted by name; what is said about it, then what was measured."""
    joined = measured.join(listing, "file_name").sort_by("file_name")
    clusters = exact_clusters(joined["pixel_hash"].to_pylist())
    joined = joined.append_column("duplicate_cluster", pa.array(clusters))
    weight = pc.fill_null(joined["weight"], 1.0)
    joined = joined.set_column(joined.column_names.index("weight"), "weight", weight)
    own = {name for name, _ in GIVEN}
    extras = [field for field in listing.schema if field.name not in own]
    schema = pa.schema([*GIVEN, *((f.name, f.type) for f in extras), *MEASURED])
    return joined.select(schema.names).cast(schema).combine_chunks()


def _summarise(workspace: Workspace, manifest: pa.Table) -> None:
    counts = Counter(manifest["status"].to_pylist())
    if not counts["ok"]:
        raise DataRefused(
            f"{workspace.data}: not one of {manifest.num_rows:,} images can be read; see the"
            f" statuses in {workspace.manifest.relative_to(workspace.root)}"
        )
    others = [f"{n:,} {status}" for status, n in sorted(counts.items()) if status != "ok"]
    logger.info(
        "scan: %s images ok%s → %s",
        f"{counts['ok']:,}",
        "".join(f", {other}" for other in others),
        workspace.manifest.relative_to(workspace.root),
    )
