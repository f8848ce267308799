"""`make published PRESET=NAME`: what a preset reaches beside the figure that was published.

The preset is trained in a fresh clone of the last commit, once for each seed, by the stages that
its users run. The result is ``benchmarks/published/NAME.json``, and ``docs/published.md`` shows all
of them. The test images choose nothing: a seed is chosen by its validation images.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import PROJECT, circumstances
from benchmarks.trainings import Clone, cloned
from pipeline.artifacts import write_json
from pipeline.presets.preset import read_preset

PRESETS = PROJECT / "presets"
PUBLISHED = PROJECT / "benchmarks" / "published"
METRICS = ("accuracy", "weighted_accuracy", "balanced_accuracy", "auroc", "macro_f1")


@dataclass(frozen=True)
class Seed:
    """One training of a preset, and its figures as shares of 1."""

    seed: int
    validation_accuracy: float
    test: dict[str, float]
    minutes: float
    """Of the training alone."""


def measure(name: str, data: str | None, seeds: Sequence[int]) -> dict[str, Any]:
    """Train the preset ``name`` with each of ``seeds``.

    Args:
        data: what ``python -m pipeline ingest`` is to take; None: the source in the preset.
    """
    preset, measured = read_preset(PRESETS, name).preset, circumstances()
    (variant,) = preset.params["variants"]
    names = {seed: f"{variant}_{seed}" for seed in seeds}
    with cloned(name, preset, data) as clone:
        clone.set_variants({name: {"seed": seed} for seed, name in names.items()})
        minutes = {seed: clone.train(name) for seed, name in names.items()}
        return _result(name, clone, names, minutes) | measured


def _result(
    name: str, clone: Clone, names: dict[int, str], minutes: dict[int, float]
) -> dict[str, Any]:
    seeds, votes = list[Seed](), []
    for seed, variant in names.items():
        metrics = clone.metrics(variant)
        predictions = clone.predictions(variant)
        votes.append(predictions.samples["test"])
        seeds.append(
            Seed(
                seed,
                metrics["val"]["accuracy"]["value"],
                {metric: metrics["test"][metric]["value"] for metric in METRICS},
                minutes[seed],
            )
        )
    mean_scores = np.mean([sample.probabilities for sample in votes], axis=0)
    right = mean_scores.argmax(axis=1) == votes[0].targets
    accuracies = [seed.test["accuracy"] for seed in seeds]
    best = max(seeds, key=lambda seed: seed.validation_accuracy)
    return {
        "name": name,
        "title": clone.preset.title,
        "published": clone.preset.figure.model_dump(),
        "parameters": predictions.parameters,
        "images": metrics["images"],
        "mean": {
            metric: statistics.fmean(seed.test[metric] for seed in seeds) for metric in METRICS
        },
        "spread": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "chosen_by_validation": best.test["accuracy"],
        "vote": float(right.mean()) if len(seeds) > 1 else None,
        "seeds": [asdict(seed) for seed in seeds],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset", help="a file of presets/, without its end")
    parser.add_argument("--data", help="a source for 'ingest', such as a folder of IDX files")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 (default: 3)")
    parser.add_argument("--out", type=Path, default=PUBLISHED)
    asked = parser.parse_args()
    path = asked.out / f"{asked.preset}.json"
    write_json(path, measure(asked.preset, asked.data, range(asked.seeds)))
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
