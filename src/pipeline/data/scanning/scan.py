"""Stage scan: read every image once, and write what it measures into the manifest."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.console import logger
from pipeline.data.manifest import GIVEN, MEASURED, write_table
from pipeline.data.scanning.incremental import measure_listed
from pipeline.data.scanning.listing import read_listing
from pipeline.data.scanning.measure import Limits
from pipeline.data.scanning.parallel import Setting
from pipeline.data.scanning.scan_cache import ScanCache, checker_key
from pipeline.errors import DataRefused
from pipeline.params import ScanParams
from pipeline.workspace import Workspace


def scan(workspace: Workspace, params: ScanParams) -> None:
    """Write ``artifacts/manifest.parquet``: a row per listed image, and per unlisted file.

    No file ends the scan: what is wrong with one is its row's ``status`` and ``error``. Files that
    have not changed since the last scan are not read again; the manifest is the same as if they
    were.

    Raises:
        PipelineError, DataRefused: ``data/metadata.csv`` cannot be used; see `read_listing`.
    """
    listing = read_listing(workspace.metadata).sort_by("file_name").combine_chunks()
    names = listing["file_name"].combine_chunks()
    limits = Limits(max_bytes=params.max_bytes, max_pixels=params.max_pixels)
    setting = Setting(workspace.data, limits, timeout=params.timeout, memory=params.memory)
    cache = ScanCache(workspace.state / "scan", checker_key(params))
    measured = measure_listed(setting, names, cache)
    unlisted = _unlisted(workspace.data, measured.unlisted)
    manifest = _assemble(listing, measured.table, unlisted)
    write_table(workspace.manifest, manifest)
    _summarise(workspace, manifest)


def _unlisted(data: Path, names: list[str]) -> pa.Table:
    """A row for every file that the table does not name: they are neither read nor used."""
    return pa.table(
        {
            "file_name": [os.fsencode(name).decode("utf-8", "backslashreplace") for name in names],
            "extension": [PurePosixPath(name).suffix.lower() for name in names],
            "status": ["unlisted"] * len(names),
            "error": ["not in metadata.csv"] * len(names),
            "bytes": [_size(data / name) for name in names],
            "duplicate_cluster": [-1] * len(names),
            "near_cluster": [-1] * len(names),
        },
    )


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except OSError:
        return None  # it has gone since


def _assemble(listing: pa.Table, measured: pa.Table, unlisted: pa.Table) -> pa.Table:
    """One row per file, sorted by name; what is said about it, then what was measured."""
    own = {name for name, _ in GIVEN}
    extras = [field for field in listing.schema if field.name not in own]
    schema = pa.schema([*GIVEN, *((f.name, f.type) for f in extras), *MEASURED])
    columns = {name: listing[name] for name in listing.column_names}
    columns |= {name: measured[name] for name, _ in MEASURED}
    manifest = pa.table(columns).select(schema.names).cast(schema)
    if len(unlisted):
        manifest = pa.concat_tables([manifest, unlisted], promote_options="default")
        manifest = manifest.select(schema.names).cast(schema).sort_by("file_name")
        weight = pc.fill_null(manifest["weight"], 1.0)
        manifest = manifest.set_column(schema.get_field_index("weight"), "weight", weight)
    return manifest.combine_chunks()


def _summarise(workspace: Workspace, manifest: pa.Table) -> None:
    counts = Counter(
        {item["values"]: item["counts"] for item in pc.value_counts(manifest["status"]).to_pylist()}
    )
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
