"""`make ablations`: one block of a network exchanged at a time, the rest and the budget the same.

The network and the recipe are those of the preset `BASE`, for fewer epochs. The result is
``benchmarks/published/ablations.json``, which ``docs/published.md`` shows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.published import PRESETS, PUBLISHED
from benchmarks.results import circumstances
from benchmarks.trainings import cloned
from pipeline.artifacts import write_json
from pipeline.presets.preset import read_preset

BASE = "fashion-100k"
EPOCHS = 4
NAME = "ablations"
USUAL = {"pooling": "max", "convolution": "plain"}
BLOCKS = {
    "pooling": ("max", "average", "l2", "mixed", "stochastic", "none", "spatial_pyramid"),
    "convolution": ("plain", "dilated", "grouped", "depthwise_separable", "bottleneck"),
}


def measure(data: str | None, seeds: Sequence[int], epochs: int) -> dict[str, Any]:
    """Train the network with each block and each of ``seeds``."""
    preset, measured = read_preset(PRESETS, BASE).preset, circumstances()
    rows: dict[str, dict[str, Any]] = {}
    with cloned(BASE, preset, data) as clone:
        variants = {
            f"{name}_{seed}": {"seed": seed, "architecture": architecture}
            for name, architecture in _exchanged()
            for seed in seeds
        }
        clone.set_variants(variants, epochs=epochs)
        for name, _ in _exchanged():
            names = [f"{name}_{seed}" for seed in seeds]
            minutes = [clone.train(name) for name in names]
            rows[name] = {
                "accuracies": [clone.metrics(name)["test"]["accuracy"]["value"] for name in names],
                "parameters": clone.predictions(names[0]).parameters,
                "minutes": statistics.median(minutes),
            }
    blocks = {
        block: {choice: rows[_name(block, choice)] for choice in choices}
        for block, choices in BLOCKS.items()
    }
    return {"base": BASE, "epochs": epochs, "seeds": list(seeds), "blocks": blocks} | measured


def _exchanged() -> Iterator[tuple[str, dict[str, str]]]:
    """The name and the architecture of each network; the usual one once."""
    yield "usual", {}
    for block, choices in BLOCKS.items():
        for choice in choices:
            if _name(block, choice) != "usual":
                pyramid = choice == "spatial_pyramid"
                yield _name(block, choice), {"last_pooling" if pyramid else block: choice}


def _name(block: str, choice: str) -> str:
    return "usual" if USUAL[block] == choice else f"{block}_{choice}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a source for 'ingest', such as a folder of IDX files")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 (default: 3)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"default: {EPOCHS}")
    parser.add_argument("--out", type=Path, default=PUBLISHED)
    asked = parser.parse_args()
    path = asked.out / f"{NAME}.json"
    write_json(path, measure(asked.data, range(asked.seeds), asked.epochs))
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
