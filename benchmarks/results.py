"""The form of a benchmark's results: ``benchmarks/results/NAME.json``.

``{name, commit, date, device, versions, rows}``, a row being ``{case, metric, unit, ours, peer,
peer_name, ratio, low, high, repeats}``. A ratio above 1 means that ours is better; where nothing is
compared, ``peer``, ``peer_name`` and ``ratio`` are null.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.artifacts import write_json

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
SPEED = ("images per second", "1/s")
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pillow", "dvc", "prefect", "mlflow")


@dataclass(frozen=True)
class Row:
    """One figure: a median of ``repeats`` runs or a value with its interval, low to high."""

    case: str
    metric: str
    unit: str
    ours: float
    low: float | None = None
    high: float | None = None
    repeats: int = 1
    peer: float | None = None
    peer_name: str | None = None
    ratio: float | None = None


def beside(
    case: str,
    metric: str,
    unit: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    peer_name: str,
    *,
    digits: int = 1,
) -> Row:
    """Medians of runs that took turns, and the median of the ratios of neighbours.

    Of seconds less is better, of everything else more.
    """
    ratios = (b / a if unit == "s" else a / b for a, b in zip(ours, theirs, strict=True))
    return replace(
        spread(case, metric, unit, ours, digits=digits),
        peer=round(statistics.median(theirs), digits),
        peer_name=peer_name,
        ratio=round(statistics.median(ratios), 3),
    )


def spread(case: str, metric: str, unit: str, values: Sequence[float], *, digits: int = 4) -> Row:
    """The median of ``values``, from the least to the largest."""
    middle, low, high = (round(f(values), digits) for f in (statistics.median, min, max))
    return Row(case, metric, unit, middle, low, high, repeats=len(values))


def save(name: str, rows: list[Row], folder: Path = RESULTS) -> Path:
    """Write ``NAME.json`` in ``folder`` with where and with what it was measured."""
    path = folder / f"{name}.json"
    write_json(
        path,
        {
            "name": name,
            **circumstances(),
            "rows": [asdict(row) for row in rows],
        },
    )
    return path


def circumstances() -> dict[str, Any]:
    """By which commit, when, where and with what something was measured."""
    return {
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "device": device(),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def device() -> str:
    """The processor's name and cores, and the GPU's where PyTorch sees one."""
    import torch

    processor = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    text = f"{processor}, {os.cpu_count()} cores"
    return f"{text}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else text


def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
