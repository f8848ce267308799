"""Seconds of the bootstrap's intervals beside a loop over resamples with scikit-learn's metrics.

Both give the intervals of the same metrics from as many resamples; the loop's time is that of some
of its resamples, counted up.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score

from benchmarks.results import Row, beside
from pipeline.evaluation.bootstrap import Resampling, bootstrap
from pipeline.vision.metrics import METRICS, Sample

NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
RESAMPLES = 10_000
LOOPED = 40
"""Resamples that the loop is timed on."""
SIZES = (400, 10_000)


def rows(repeats: int = 5, images: int | None = None) -> list[dict[str, Any]]:
    """A row for each number of images; ``images`` is the largest."""
    sizes = sorted({min(images or size, size) for size in SIZES})
    return [asdict(_case(size, repeats)) for size in sizes]


def _case(images: int, repeats: int) -> Row:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, images)
    score = np.clip(0.5 + 0.2 * (targets - 0.5) + 0.2 * rng.normal(size=images), 0.001, 0.999)
    sample = Sample.of(targets, np.stack([1 - score, score], axis=1), np.ones(images))
    metrics = {name: METRICS[name] for name in NAMES}
    ours, theirs = list[float](), list[float]()
    for _ in range(repeats):
        start = time.perf_counter()
        bootstrap(sample, metrics, Resampling(RESAMPLES, 0.95, 0))
        ours.append(time.perf_counter() - start)
        theirs.append(_loop(targets, score, rng) * RESAMPLES / LOOPED)
    return beside(
        f"{images:,} images, {RESAMPLES:,} resamples, {len(NAMES)} metrics",
        *("time", "s", ours, theirs, f"a loop with scikit-learn {version('scikit-learn')}"),
        digits=4,
    )


def _loop(targets: np.ndarray, score: np.ndarray, rng: np.random.Generator) -> float:
    start = time.perf_counter()
    for _ in range(LOOPED):
        drawn = rng.integers(0, len(targets), len(targets))
        truth, chance = targets[drawn], score[drawn]
        answer = chance > 0.5
        accuracy_score(truth, answer)
        balanced_accuracy_score(truth, answer)
        f1_score(truth, answer, average="macro")
        roc_auc_score(truth, chance)
    return time.perf_counter() - start
