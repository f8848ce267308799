"""The manifest: one typed row per image, the same types whatever the data."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import replacing, require

SPLITS = ("train", "val", "test")

GIVEN = (
    ("file_name", pa.string()),
    ("label", pa.string()),
    ("weight", pa.float64()),
    ("split", pa.string()),
    ("group", pa.string()),
)
"""What the data says about an image; its extra columns follow."""

MEASURED = (
    ("bytes", pa.int64()),
    ("sha256", pa.string()),
    ("extension", pa.string()),
    ("magic", pa.string()),
    ("status", pa.string()),
    ("error", pa.string()),
    ("format", pa.string()),
    ("mode", pa.string()),
    ("bits", pa.int64()),
    ("alpha", pa.int64()),
    ("width", pa.int64()),
    ("height", pa.int64()),
    ("frames", pa.int64()),
    ("exif_orientation", pa.int64()),
    ("brightness", pa.float64()),
    ("contrast", pa.float64()),
    ("sharpness", pa.float64()),
    ("entropy", pa.float64()),
    ("pixel_hash", pa.string()),
    ("phash", pa.string()),
    ("duplicate_cluster", pa.int64()),
    ("near_cluster", pa.int64()),
)
"""What the scan found out about its file."""

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def split_of(given: str) -> str | None:
    """The split that ``given`` names (``Validation`` is val), or ``None`` if it names none."""
    return SPLIT_NAMES.get(given.strip().lower())


def extra_columns(table: pa.Table) -> list[str]:
    """The columns of the data beyond the known ones."""
    own = {name for name, _ in (*GIVEN, *MEASURED)}
    return [name for name in table.column_names if name not in own]


def write_table(path: Path, table: pa.Table) -> None:
    """Write ``table`` so that equal tables are equal bytes."""
    plain = table.replace_schema_metadata(None)
    with replacing(path) as temporary:
        pq.write_table(plain, temporary, compression="zstd")


def read_table(path: Path) -> pa.Table:
    """Read what `write_table` wrote.

    Raises:
        PipelineError: ``path`` is missing.
    """
    return pq.read_table(require(path))


def to_frame(table: pa.Table) -> pd.DataFrame:
    """``table`` in pandas: text as ``str`` with NaN, whole numbers with gaps as float64."""
    return table.to_pandas()
