"""Rows: how time and memory of validate and split grow with the rows of the manifest.

Synthetic manifests, without any image file, of ten classes with one bad row in a hundred, copies
and near copies. Each measurement is a process of its own, whose imports are done before the clock
starts, so the exponent is that of the work, not of a constant.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.results import PROJECT, spread
from pipeline.artifacts import write_json
from pipeline.data.manifest import GIVEN, MEASURED, to_frame, write_table
from pipeline.data.validation.reference import Reference, write_reference
from pipeline.workspace import Workspace

SIZES = (10_000, 100_000, 1_000_000)
STAGES = ("validate", "split")
CLASSES = [f"class {i}" for i in range(10)]


def rows(sizes: tuple[int, ...] = SIZES, repeats: int = 5) -> list[dict[str, Any]]:
    """Seconds and peak memory of both stages at each of ``sizes``, and the exponents of time."""
    measured: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            make_workspace(Path(folder, str(size)), size)
        for _ in range(repeats):
            for size in sizes:
                for stage in STAGES:
                    done = _measure(Path(folder, str(size)), stage)
                    measured.setdefault((stage, size), []).append(done)
    table = []
    for (stage, size), runs in measured.items():
        seconds, peaks = ([run[i] for run in runs] for i in (0, 1))
        case = f"{stage}, {size:,} rows"
        table.append(spread(case, "time", "s", seconds))
        table.append(spread(case, "peak memory", "MiB", peaks))
    first, last = min(sizes), max(sizes)
    for stage in STAGES:
        pairs = zip(measured[stage, first], measured[stage, last], strict=True)
        exponents = [math.log(b[0] / a[0]) / math.log(last / first) for a, b in pairs]
        table.append(spread(f"{stage}, {first:,} to {last:,} rows", "exponent", "", exponents))
    return [asdict(row) for row in table]


def make_workspace(root: Path, size: int) -> None:
    """A project without images: a manifest of ``size`` rows, and a reference of a tenth of them."""
    workspace = Workspace(root)
    manifest = synthetic_manifest(size, seed=0)
    write_table(workspace.manifest, manifest)
    earlier = to_frame(manifest.slice(0, size // 10))
    write_reference(workspace.reference, Reference.of(earlier[earlier["status"] == "ok"]))
    write_json(workspace.classes, {"classes": CLASSES})
    (root / "params.yaml").write_bytes((PROJECT / "params.yaml").read_bytes())


def synthetic_manifest(size: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    digests = rng.bytes(32 * size).hex()
    hashes = [digests[64 * i : 64 * i + 64] for i in range(size)]
    exact = np.arange(size)
    copies = rng.random(size) < 0.01
    exact[copies] = rng.integers(0, size, int(copies.sum()))
    near = exact.copy()
    alike = rng.random(size) < 0.01
    near[alike] = rng.integers(0, size, int(alike.sum()))
    labels = np.array(CLASSES)[rng.integers(0, len(CLASSES), size)[near]]
    bad = rng.random(size) < 0.01
    status = np.where(bad, "truncated", "ok")
    columns: dict[str, Any] = {
        "file_name": [f"images/{i:07}.jpg" for i in range(size)],
        "label": labels,
        "weight": np.ones(size),
        "bytes": rng.integers(10_000, 1_000_000, size),
        "sha256": hashes,
        "extension": np.full(size, ".jpg"),
        "magic": np.full(size, "JPEG"),
        "status": status,
        "error": np.where(bad, "cut short", None),
        "format": np.full(size, "JPEG"),
        "mode": np.full(size, "RGB"),
        "bits": np.full(size, 8),
        "alpha": np.zeros(size, np.int64),
        "width": rng.integers(200, 4000, size),
        "height": rng.integers(200, 4000, size),
        "frames": np.ones(size, np.int64),
        "brightness": rng.beta(4, 4, size),
        "contrast": rng.beta(2, 12, size) / 2 + 0.02,
        "sharpness": rng.lognormal(5, 1, size) + 2,
        "entropy": rng.uniform(3, 8, size),
        "pixel_hash": [hashes[i] for i in exact],
        "phash": [hashes[i][:16] for i in near],
        "duplicate_cluster": np.where(bad, -1, exact),
        "near_cluster": np.where(bad, -1, near),
    }
    schema = pa.schema([*GIVEN, *MEASURED])
    empty = pa.nulls(size)
    arrays = [pa.array(columns.get(name, empty), type=kind) for name, kind in (*GIVEN, *MEASURED)]
    return pa.table(arrays, schema=schema)


def _measure(root: Path, stage: str) -> tuple[float, float]:
    """Seconds of the stage and peak memory of its process in MiB."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.data_rows", str(root), stage],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def main(root: str, stage: str) -> None:
    """Run ``stage`` in ``root`` and print its seconds and peak memory."""
    import great_expectations  # noqa: F401 (imported here, so that the clock does not see it)

    from pipeline.data.split import split
    from pipeline.data.validation.validate import validate
    from pipeline.params import load

    workspace = Workspace(Path(root))
    params = load(workspace.params)
    start = time.perf_counter()
    if stage == "validate":
        validate(workspace, params.validation, group=params.split.group)
    else:
        split(workspace, params.split)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
    sys.stdout.write(json.dumps([seconds, peak / 1024]))


if __name__ == "__main__":
    main(*sys.argv[1:])
