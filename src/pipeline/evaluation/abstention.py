"""Abstention: how many mistakes are left if the least confident predictions are not used.

El-Yaniv & Wiener, On the foundations of noise-free selective classification, 2010; the area under
the risk-coverage curve: Geifman et al., Bias-reduced uncertainty estimation for deep neural
classifiers, 2019 (arXiv:1805.08206).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from pipeline.evaluation.bootstrap import Interval, bootstrap
from pipeline.evaluation.page import Drawing
from pipeline.evaluation.section import Evaluated, Found
from pipeline.evaluation.sweeps import risk_over_coverage
from pipeline.evaluation.verdict import Point
from pipeline.evaluation.wording import percent
from pipeline.vision.metrics import METRICS, Drawn, Floats, Metric, Sample, finite, ratio

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


@dataclass(frozen=True)
class Abstaining:
    """What a threshold on the confidence does, chosen on validation to keep ``wanted``."""

    wanted: float
    threshold: float
    coverage: float
    """Share of the test images that are answered."""
    answered: int
    accuracy: Interval
    """On the test images that are answered."""


def risk_coverage(sample: Sample) -> pd.DataFrame:
    """The curve: ``risk``, the share of mistakes among the ``coverage`` most confident images.

    Images of equal confidence are answered together, so a row is a confidence that occurs.
    """
    order = np.argsort(-sample.confidence, kind="stable")
    answered = np.arange(1, len(sample) + 1)
    wrong = np.cumsum(~sample.correct[order])
    confidence = sample.confidence[order]
    last = np.append(confidence[1:] != confidence[:-1], True)[: len(sample)]
    return pd.DataFrame(
        {
            "coverage": (answered / max(1, len(sample)))[last],
            "risk": (wrong / answered)[last],
            "confidence": confidence[last],
        }
    )


def aurc(drawn: Drawn) -> Floats:
    """Area under the risk-coverage curve: the mean risk over all coverages; lower is better.

    Of images of equal confidence the order is not known: each counts as the whole of them.
    """
    sample = drawn.sample
    order = np.argsort(-sample.confidence, kind="stable")
    confidence = sample.confidence[order]
    starts = np.flatnonzero(np.append(True, confidence[1:] != confidence[:-1])[: len(sample)])
    if not len(starts):
        return np.full(drawn.counts.shape[:-1], np.nan)
    counts = np.take(drawn.counts, order, axis=-1)
    answered = np.add.reduceat(counts, starts, axis=-1)
    wrong = np.add.reduceat(counts * ~sample.correct[order], starts, axis=-1)
    with np.errstate(invalid="ignore"):
        risk = np.cumsum(wrong, axis=-1) / np.cumsum(answered, axis=-1)
    # A step that no image was drawn of weighs nothing, also where it has no risk.
    return ratio((np.nan_to_num(risk) * answered).sum(axis=-1, dtype=np.float64), drawn.size)


AURC = Metric("Area under the risk-coverage curve", aurc, higher_is_better=False, in_percent=False)


def find(evaluated: Evaluated) -> Found:
    """The curve, its area, and what thresholds chosen on validation do on the test images."""
    val, test = (evaluated.predictions.samples[split] for split in ("val", "test"))
    area = bootstrap(test, {"aurc": AURC}, evaluated.resampling)["aurc"]
    steps = [_abstaining(val, test, wanted, evaluated) for wanted in COVERAGES]
    curve = risk_coverage(test)

    return Found(
        values={"area": area, "steps": steps},
        numbers={
            "aurc": area.as_json(),
            "thresholds": [
                {
                    "wanted_coverage": step.wanted,
                    "threshold": finite(step.threshold),
                    "coverage": finite(step.coverage),
                    "accuracy": step.accuracy.as_json(),
                }
                for step in steps
            ],
        },
        points=_points(steps),
        drawings=(
            Drawing(
                "risk_coverage",
                "Risk and coverage",
                "Mistakes among the answered images, where the least confident ones are not"
                " answered. Lower is better; a flat line says that confidence tells nothing.",
                partial(risk_over_coverage, curve),
            ),
        ),
    )


def _abstaining(val: Sample, test: Sample, wanted: float, evaluated: Evaluated) -> Abstaining:
    threshold = 0.0 if wanted == 1.0 else float(np.quantile(val.confidence, 1.0 - wanted))
    answered = test[test.confidence >= threshold]
    accuracy = bootstrap(answered, {"accuracy": METRICS["accuracy"]}, evaluated.resampling)
    coverage = len(answered) / len(test)
    return Abstaining(wanted, threshold, coverage, len(answered), **accuracy)


def _points(steps: list[Abstaining]) -> tuple[Point, ...]:
    everything, some = steps[0], next(step for step in steps if step.wanted == 0.8)
    nothing_to_say = some.coverage == 1.0 or some.accuracy.value is None
    if everything.accuracy.value in {None, 1.0} or nothing_to_say:
        return ()
    text = (
        f"Without the {percent(1.0 - some.coverage, 0)} of images it is least sure of, it is right"
        f" on {percent(some.accuracy.value)} of the rest."
    )
    return (Point("Where it may abstain", text),)
