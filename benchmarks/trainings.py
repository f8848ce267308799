"""Trainings of a preset in a fresh clone of the last commit, by the stages that its users run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.results import PROJECT
from pipeline.artifacts import read_json
from pipeline.evaluation.predictions import Predictions
from pipeline.presets.preset import Preset


@dataclass(frozen=True)
class Clone:
    """A clone whose data is ready for the trainings of ``preset``."""

    folder: Path
    preset: Preset

    def set_variants(self, own: Mapping[str, Mapping[str, Any]], **common: Any) -> None:
        """Leave these variants in ``params.yaml``, each the preset's with settings of its own.

        Args:
            own: by the variant's name; ``architecture`` is added to, the rest replaced.
            common: settings of ``train`` that all of them share.
        """
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
        ((_, base),) = self.preset.params["variants"].items()
        params["variants"] = {name: _merged(base | common, of) for name, of in own.items()}
        params["evaluate"]["sections"] = ["numbers"]
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    def train(self, variant: str) -> float:
        """Train and evaluate ``variant``; returns the minutes of the training."""
        start = time.perf_counter()
        self.pipeline("train", variant)
        seconds = time.perf_counter() - start
        self.pipeline("evaluate", variant)
        return round(seconds / 60, 2)

    def metrics(self, variant: str) -> dict[str, Any]:
        """``metrics.json`` of a variant that was trained."""
        metrics: dict[str, Any] = read_json(self._evaluation(variant) / "metrics.json")
        return metrics

    def predictions(self, variant: str) -> Predictions:
        """What a variant that was trained says of each image."""
        return Predictions.read(self._evaluation(variant) / "predictions.parquet")

    def _evaluation(self, variant: str) -> Path:
        return self.folder / "artifacts" / "evaluation" / variant

    def pipeline(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "pipeline", *arguments]
        environment = os.environ | {"PYTHONPATH": "src"}
        subprocess.run(command, cwd=self.folder, env=environment, check=True)


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    architecture = base.get("architecture", {}) | own.get("architecture", {})
    return {**base, **own, "architecture": architecture}


@contextmanager
def cloned(name: str, preset: Preset, data: str | None) -> Iterator[Clone]:
    """A clone with the data of the preset ``name``, gone at the end.

    Args:
        data: what ``python -m pipeline ingest`` is to take; None: the source in the preset.
    """
    with tempfile.TemporaryDirectory() as folder:
        clone = Clone(Path(folder) / "clone", preset)
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone.folder)], check=True)
        clone.pipeline("preset", name)
        if data is not None or preset.ingest.endswith(" ingest"):
            clone.pipeline("ingest", *([data] if data is not None else []))
            clone.pipeline("data", "accept-reference", "--forget")
        else:
            clone.pipeline("data", "restore")
        for stage in ("scan", "validate", "split", "augment"):
            clone.pipeline(stage)
        yield clone
