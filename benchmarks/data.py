"""`make bench-data`: the figures of the data side, one result file for each part.

``--part`` runs some of them, ``--images`` and ``--repeats`` make a run smaller, and ``--out`` keeps
the results of such a run apart from the published ones.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from pathlib import Path

from benchmarks.results import RESULTS, Row, save

PARTS = {
    "scan": ("data_scan", "rows"),
    "rescan": ("data_scan", "rescan_rows"),
    "near": ("data_near", "rows"),
    "rows": ("data_rows", "rows"),
    "corpus": ("data_corpus", "rows"),
}
"""Module and function of each; the function's parameters say which options it takes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    parser.add_argument("--images", type=int, help="fewer images than the published run has")
    parser.add_argument("--repeats", type=int, help="fewer or more than the published run's 5")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    for name in asked.part or PARTS:
        module, function = PARTS[name]
        measure = getattr(importlib.import_module(f"benchmarks.{module}"), function)
        options = {"images": asked.images, "repeats": asked.repeats}
        known = inspect.signature(measure).parameters
        chosen = {key: value for key, value in options.items() if key in known and value}
        table = [Row(**row) for row in measure(**chosen)]
        sys.stdout.write(f"{save(f'data-{name}', table, folder=asked.out)}\n")


if __name__ == "__main__":
    main()
