"""Everything an evaluation measures, as one value that is written to ``metrics.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.bootstrap import Interval, Resampling, bootstrap, bootstrap_vectors
from pipeline.evaluation.predictions import SPLITS, Predictions
from pipeline.evaluation.slices import Slices, slice_by
from pipeline.vision.metrics import (
    METRICS,
    Metric,
    Sample,
    expected_calibration_error,
    precision,
    recall,
)

CALIBRATION = {
    "ece": Metric("Expected calibration error", expected_calibration_error, higher_is_better=False)
}


@dataclass(frozen=True)
class ClassResult:
    """How well one class is told from the others."""

    name: str
    support: int
    """How many images of the class there are."""
    precision: Interval
    recall: Interval


@dataclass(frozen=True)
class Results:
    """What was measured on each split; classes and slices on the test images."""

    images: dict[str, int]
    metrics: dict[str, dict[str, Interval]]
    calibration: dict[str, dict[str, Interval]]
    by_class: tuple[ClassResult, ...]
    slices: Slices
    parameters: int

    def as_json(self) -> dict[str, Any]:
        """The content of ``metrics.json``.

        Slices are a list, which ``dvc metrics`` passes over: its table keeps to what two versions
        are compared by.
        """
        return {
            **{split: _as_json(metrics) for split, metrics in self.metrics.items()},
            "per_class": {
                "test": {
                    each.name: {
                        "precision": each.precision.as_json(),
                        "recall": each.recall.as_json(),
                        "support": each.support,
                    }
                    for each in self.by_class
                }
            },
            "calibration": {split: _as_json(values) for split, values in self.calibration.items()},
            "slices": {"test": [each.as_json() for each in self.slices.found]},
            "images": self.images,
            "parameters": self.parameters,
        }


def measure(predictions: Predictions, resampling: Resampling) -> Results:
    """Measure both splits, and classes and slices of the test images, all with intervals."""
    samples = predictions.samples
    measured = {
        split: bootstrap(sample, METRICS | CALIBRATION, resampling)
        for split, sample in samples.items()
    }
    return Results(
        images={split: len(samples[split]) for split in SPLITS},
        metrics={split: {name: measured[split][name] for name in METRICS} for split in SPLITS},
        calibration={
            split: {name: measured[split][name] for name in CALIBRATION} for split in SPLITS
        },
        by_class=_by_class(samples["test"], predictions.classes, resampling),
        slices=slice_by(
            predictions.of_split("test"), samples["test"], predictions.extra_columns, resampling
        ),
        parameters=predictions.parameters,
    )


def _by_class(
    sample: Sample, classes: tuple[str, ...], resampling: Resampling
) -> tuple[ClassResult, ...]:
    functions = {"precision": Metric("Precision", precision), "recall": Metric("Recall", recall)}
    vectors = bootstrap_vectors(sample, functions, resampling)
    return tuple(
        ClassResult(name, int((sample.targets == k).sum()), *intervals)
        for k, (name, *intervals) in enumerate(
            zip(classes, vectors["precision"], vectors["recall"], strict=True)
        )
    )


def _as_json(metrics: dict[str, Interval]) -> dict[str, dict[str, float | None]]:
    return {name: interval.as_json() for name, interval in metrics.items()}
