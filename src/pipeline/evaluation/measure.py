"""Everything an evaluation measures by its predictions, as one value for ``metrics.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.bootstrap import Interval, Resampling, bootstrap, bootstrap_vectors
from pipeline.evaluation.calibration import CALIBRATION, calibrated, fit
from pipeline.evaluation.predictions import SPLITS, Predictions
from pipeline.evaluation.slices import Slices, slice_by
from pipeline.vision.metrics import METRICS, Metric, Sample, precision, recall

Intervals = dict[str, Interval]


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
    groups: dict[str, int] | None
    """How many groups of related images these are, which are drawn whole; ``None`` without any."""
    metrics: dict[str, Intervals]
    weighted: dict[str, Intervals] | None
    """``metrics`` with every image counted by its weight; ``None`` where all weigh the same."""
    calibration: dict[str, Intervals]
    """Of the probabilities as the network gives them."""
    temperature: float
    """Fitted on the validation images."""
    calibrated: dict[str, Intervals]
    """``calibration`` at that temperature."""
    by_class: tuple[ClassResult, ...]
    slices: Slices
    parameters: int

    def as_json(self) -> dict[str, Any]:
        """The content of ``metrics.json``.

        Slices are a list, which ``dvc metrics`` passes over: its table keeps to what two versions
        are compared by.
        """
        weighted = {} if self.weighted is None else {"weighted": _by_split(self.weighted)}
        return {
            **_by_split(self.metrics),
            **weighted,
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
            "calibration": _by_split(self.calibration),
            "calibrated": _by_split(self.calibrated),
            "temperature": self.temperature,
            "slices": {"test": [each.as_json() for each in self.slices.found]},
            "images": self.images,
            **({} if self.groups is None else {"groups": self.groups}),
            "parameters": self.parameters,
        }


def measure(predictions: Predictions, resampling: Resampling) -> Results:
    """Measure both splits, and classes and slices of the test images, all with intervals."""
    samples = predictions.samples
    temperature = fit(samples["val"])
    honest = {split: calibrated(sample, temperature) for split, sample in samples.items()}
    measured = {
        split: bootstrap(sample, METRICS | CALIBRATION, resampling)
        for split, sample in samples.items()
    }
    return Results(
        images={split: len(samples[split]) for split in SPLITS},
        groups=_groups(samples),
        metrics={split: {name: measured[split][name] for name in METRICS} for split in SPLITS},
        weighted=_weighted(samples, resampling),
        calibration={
            split: {name: measured[split][name] for name in CALIBRATION} for split in SPLITS
        },
        temperature=temperature,
        calibrated={split: bootstrap(honest[split], CALIBRATION, resampling) for split in SPLITS},
        by_class=_by_class(samples["test"], predictions.classes, resampling),
        slices=slice_by(
            predictions.of_split("test"), samples["test"], predictions.extra_columns, resampling
        ),
        parameters=predictions.parameters,
    )


def _groups(samples: dict[str, Sample]) -> dict[str, int] | None:
    counts = {
        split: len(np.unique(sample.groups))
        for split, sample in samples.items()
        if sample.groups is not None
    }
    return counts or None


def _weighted(samples: dict[str, Sample], resampling: Resampling) -> dict[str, Intervals] | None:
    if all(len(np.unique(sample.weights)) < 2 for sample in samples.values()):
        return None
    return {
        split: bootstrap(sample, METRICS, resampling, weighted=True)
        for split, sample in samples.items()
    }


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


def _by_split(measured: dict[str, Intervals]) -> dict[str, dict[str, dict[str, float | None]]]:
    return {
        split: {name: interval.as_json() for name, interval in intervals.items()}
        for split, intervals in measured.items()
    }
