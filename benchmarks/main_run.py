"""`make bench-run`: the whole run on the default data, timed, in a fresh clone of the last commit.

Measures the wall time of ``python -m flows.training`` (data, all stages, registration; without the
installation) and reads the variants' quality from its leaderboard.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from benchmarks.results import PROJECT, Row, save

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "weighted_accuracy")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], check=True)
        binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": binaries, "PYTHONPATH": "src"}
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "flows.training"], cwd=clone, env=environment, check=True
        )
        seconds = time.perf_counter() - start
        leaderboard = pd.read_csv(clone / "artifacts" / "leaderboard.csv")
    rows = [Row("make run, from data to champion", "wall time", "s", round(seconds, 1))]
    for variant in leaderboard.to_dict(orient="records"):
        for metric in METRICS:
            value, low, high = (
                float(variant[f"test_{metric}{end}"]) for end in ("", "_low", "_high")
            )
            rows.append(Row(variant["variant"], f"test {metric}", "share", value, low, high))
        rows.append(Row(variant["variant"], "parameters", "", float(variant["parameters"])))
    sys.stdout.write(f"{save('main-run', rows)}\n")


if __name__ == "__main__":
    main()
