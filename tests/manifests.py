"""Manifests as the scan writes them, made without images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from pipeline.data.manifest import GIVEN, MEASURED, to_frame


def manifest_table(labels: Sequence[str | None], **columns: Sequence[Any]) -> pa.Table:
    """A sound manifest of 64 × 48 PNG images, one of each label, with ``columns`` laid over it.

    A column of fewer values than rows replaces the first ones.
    """
    count = len(labels)
    table: dict[str, list[Any]] = {
        "file_name": [f"images/{i:05}.png" for i in range(count)],
        "label": list(labels),
        "weight": [1.0] * count,
        "sha256": [f"{(i * 2_654_435_761) % 2**32:08x}{i:056x}" for i in range(count)],
        "extension": [".png"] * count,
        "magic": ["PNG"] * count,
        "status": ["ok"] * count,
        "format": ["PNG"] * count,
        "mode": ["L"] * count,
        "bits": [8] * count,
        "alpha": [0] * count,
        "width": [64] * count,
        "height": [48] * count,
        "frames": [1] * count,
        "pixel_hash": [f"{i:064x}" for i in range(count)],
        "brightness": [0.5] * count,
        "contrast": [0.2] * count,
        "sharpness": [100.0] * count,
        "entropy": [6.0] * count,
        "duplicate_cluster": [1000 + i for i in range(count)],
        "near_cluster": [1000 + i for i in range(count)],
    }
    known = dict((*GIVEN, *MEASURED))
    for name, values in columns.items():
        full = table.get(name, [None] * count)
        table[name] = [*values, *full[len(values) :]]
    extras = [name for name in table if name not in known]
    return pa.table(
        {
            name: pa.array(table.get(name, [None] * count), known.get(name))
            for name in (*(n for n, _ in GIVEN), *extras, *(n for n, _ in MEASURED))
        }
    )


def manifest_frame(labels: Sequence[str | None], **columns: Sequence[Any]) -> pd.DataFrame:
    """As `manifest_table`, in pandas."""
    return to_frame(manifest_table(labels, **columns))
