"""`make published PRESET=NAME`: what a preset reaches beside the figure that was published.

The preset is trained in a fresh clone of the last commit, once for each seed, by the stages that
its users run. The result is ``benchmarks/published/NAME.json``, and ``docs/published.md`` shows all
of them. The test images choose nothing: a seed is chosen by its validation images.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.results import PROJECT, circumstances
from pipeline.artifacts import read_json, write_json
from pipeline.evaluation.predictions import Predictions
from pipeline.presets.preset import Preset, read_preset

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
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], check=True)
        _pipeline(clone, "preset", name)
        variants = _repeat(clone / "params.yaml", preset, seeds)
        if data is not None or preset.ingest.endswith(" ingest"):
            _pipeline(clone, "ingest", *([data] if data is not None else []))
            _pipeline(clone, "data", "accept-reference", "--forget")
        else:
            _pipeline(clone, "data", "restore")
        for stage in ("scan", "validate", "split", "augment"):
            _pipeline(clone, stage)
        trained = {seed: _train(clone, variant) for seed, variant in variants.items()}
        return _result(name, preset, clone, variants, trained) | measured


def _repeat(params: Path, preset: Preset, seeds: Sequence[int]) -> dict[int, str]:
    """Leave one variant in ``params`` for each seed; returns their names."""
    settings = yaml.safe_load(params.read_text(encoding="utf-8"))
    ((variant, own),) = preset.params["variants"].items()
    names = {seed: f"{variant}_{seed}" for seed in seeds}
    settings["variants"] = {name: own | {"seed": seed} for seed, name in names.items()}
    settings["evaluate"]["sections"] = ["numbers"]
    params.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return names


def _train(clone: Path, variant: str) -> float:
    """Train and evaluate ``variant``; returns the seconds of the training."""
    start = time.perf_counter()
    _pipeline(clone, "train", variant)
    seconds = time.perf_counter() - start
    _pipeline(clone, "evaluate", variant)
    return seconds


def _pipeline(clone: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pipeline", *arguments]
    subprocess.run(command, cwd=clone, env=os.environ | {"PYTHONPATH": "src"}, check=True)


def _result(
    name: str, preset: Preset, clone: Path, variants: dict[int, str], seconds: dict[int, float]
) -> dict[str, Any]:
    folder = clone / "artifacts" / "evaluation"
    seeds, votes = list[Seed](), []
    for seed, variant in variants.items():
        metrics = read_json(folder / variant / "metrics.json")
        predictions = Predictions.read(folder / variant / "predictions.parquet")
        votes.append(predictions.samples["test"])
        seeds.append(
            Seed(
                seed,
                metrics["val"]["accuracy"]["value"],
                {metric: metrics["test"][metric]["value"] for metric in METRICS},
                round(seconds[seed] / 60, 2),
            )
        )
    mean_scores = np.mean([sample.probabilities for sample in votes], axis=0)
    right = mean_scores.argmax(axis=1) == votes[0].targets
    accuracies = [seed.test["accuracy"] for seed in seeds]
    best = max(seeds, key=lambda seed: seed.validation_accuracy)
    return {
        "name": name,
        "title": preset.title,
        "published": preset.figure.model_dump(),
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
