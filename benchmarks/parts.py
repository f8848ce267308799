"""The command line of a benchmark that has several parts."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.results import RESULTS, Row, save


def run(name: str, parts: Mapping[str, tuple[str, str]], description: str | None) -> None:
    """Run the parts that the command line asks for, and save each as ``NAME-PART.json``.

    Args:
        parts: module and function of each; the function's parameters say which options it takes.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--part", choices=parts, action="append", help="default: all")
    parser.add_argument("--images", type=int, help="fewer images than the published run has")
    parser.add_argument("--repeats", type=int, help="fewer or more than the published run's 5")
    parser.add_argument("--data", type=Path, help="images that a part cannot make itself")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    for part in asked.part or parts:
        module, function = parts[part]
        measure = getattr(importlib.import_module(f"benchmarks.{module}"), function)
        options = {"images": asked.images, "repeats": asked.repeats, "data": asked.data}
        known = inspect.signature(measure).parameters
        if "data" in known and asked.data is None:
            sys.stdout.write(f"{part}: left out, as it needs --data\n")
            continue
        chosen = {key: value for key, value in options.items() if key in known and value}
        table = [Row(**row) for row in measure(**chosen)]
        sys.stdout.write(f"{save(f'{name}-{part}', table, folder=asked.out)}\n")
