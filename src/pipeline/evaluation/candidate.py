"""What `compare` reads of a variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import read_json
from pipeline.errors import PipelineError
from pipeline.evaluation.bootstrap import Interval
from pipeline.evaluation.page import TIMINGS
from pipeline.evaluation.predictions import SPLITS, Predictions
from pipeline.vision.metrics import METRICS
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Candidate:
    """One evaluated variant."""

    variant: str
    folder: Path
    predictions: Predictions
    metrics: dict[str, dict[str, Interval]]
    """By split and name."""
    sections: Mapping[str, Any]
    """What the report's sections measured, by their names."""
    timings: Mapping[str, Any]
    """Of a prediction, on the machine that evaluated; empty where the report is not at hand."""

    @property
    def parameters(self) -> int:
        return self.predictions.parameters


def read_candidate(workspace: Workspace, variant: str) -> Candidate:
    """The evaluation of ``variant``.

    Raises:
        PipelineError: a file of it is missing.
    """
    folder = workspace.evaluation(variant)
    for name in ("metrics.json", "predictions.parquet", "sections.json"):
        if not (folder / name).is_file():
            raise PipelineError(
                f"variant '{variant}' has no evaluation: {folder / name} is missing;"
                f" run 'dvc repro evaluate@{variant}', or take it out of variants in params.yaml"
            )
    measured = read_json(folder / "metrics.json")
    metrics = {
        split: {name: Interval.from_json(measured[split][name]) for name in METRICS}
        for split in SPLITS
    }
    # No dependency of the stage: what a prediction takes differs from run to run.
    timings = workspace.report(variant) / TIMINGS
    return Candidate(
        variant,
        folder,
        Predictions.read(folder / "predictions.parquet"),
        metrics,
        read_json(folder / "sections.json"),
        read_json(timings) if timings.is_file() else {},
    )


def require_same_images(candidates: list[Candidate]) -> None:
    """Refuse evaluations of different data, which cannot be compared.

    Raises:
        PipelineError: naming two of them.
    """
    first = candidates[0]
    for other in candidates[1:]:
        if other.predictions.data_digest != first.predictions.data_digest:
            raise PipelineError(
                f"variants '{first.variant}' and '{other.variant}' were evaluated on different"
                " data; run 'dvc repro' to evaluate both on the same"
            )
