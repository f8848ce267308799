"""How sure a metric is: the percentile bootstrap (Efron & Tibshirani, 1993, chapter 13).

Images are drawn with replacement, as many as there are, without regard to class: the number of
images of a class varies between resamples as it would between data sets. A resample is a row of
counts, and all metrics of all resamples are matrix products with those rows, taken in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.params import EvaluateParams
from pipeline.vision.metrics import METRICS, Drawn, Floats, Metric, Sample, finite, ratio

CHUNK = 2**17
"""Counts held at a time: as many rows of them as there is room for in a core's own cache."""


@dataclass(frozen=True)
class Resampling:
    """How many resamples, the share of them the interval spans, and the seed of the draws."""

    resamples: int
    confidence: float
    seed: int

    @classmethod
    def of(cls, params: EvaluateParams) -> Resampling:
        return cls(params.resamples, params.confidence, params.seed)


@dataclass(frozen=True)
class Interval:
    """A value and where it would lie on other images of the same kind.

    All three are ``None`` where the images leave the metric undefined.
    """

    value: float | None
    low: float | None
    high: float | None

    def as_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}

    @classmethod
    def from_json(cls, fields: Mapping[str, float | None]) -> Interval:
        return cls(fields["value"], fields["low"], fields["high"])


def bootstrap(
    sample: Sample,
    metrics: Mapping[str, Metric],
    resampling: Resampling,
    *,
    weighted: bool = False,
) -> dict[str, Interval]:
    """Each metric of ``sample`` with its interval.

    With ``weighted`` an image counts as much as its label is trusted (``Sample.weights``), in every
    metric. A metric of a class that a resample happens to miss is judged by the resamples that
    have it. An interval always holds its value: the calibration error of a resample is on average
    above the sample's, so its percentiles alone might not.
    """
    vectors = bootstrap_vectors(sample, metrics, resampling, weighted=weighted)
    return {name: intervals[0] for name, intervals in vectors.items()}


def bootstrap_vectors(
    sample: Sample,
    metrics: Mapping[str, Metric],
    resampling: Resampling,
    *,
    weighted: bool = False,
) -> dict[str, list[Interval]]:
    """As `bootstrap`, for metrics that are a vector, such as one value a class."""
    if not len(sample):
        return {name: [_interval(np.nan, np.empty(0), resampling)] for name in metrics}
    values: dict[str, list[Floats]] = {name: [] for name in metrics}
    weights = None
    if weighted:
        weights = sample.weights.astype(np.float32)
        # In the counts already: a metric that looks at weights itself would square them.
        sample = Sample.of(sample.targets, sample.probabilities)
    for counts in draws(len(sample), resampling):
        drawn = Drawn(sample, counts if weights is None else counts * weights)
        for name, metric in metrics.items():
            values[name].append(metric.function(drawn).reshape(len(counts), -1))
    once = sample.drawn(weights)
    return {
        name: [
            _interval(value, column, resampling)
            for value, column in zip(
                metric.function(once).reshape(-1), np.concatenate(values[name]).T, strict=True
            )
        ]
        for name, metric in metrics.items()
    }


def mean_of(of_image: ArrayLike) -> Metric:
    """The mean of a quantity (N,) that each image of a sample has, as a metric."""
    return Metric("Mean", lambda drawn: ratio(drawn.total(of_image), drawn.size))


def paired_bootstrap(
    metric: str,
    targets: ArrayLike,
    probabilities_a: ArrayLike,
    probabilities_b: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    resampling: Resampling,
) -> Interval:
    """``metric`` of model a minus that of model b, both on the same images in every resample.

    What makes an image hard is hard for both, so the interval is narrower than the two models' own
    suggest.

    Args:
        metric: a key of `METRICS`.
        targets: (N,) classes.
        probabilities_a: (N, K).
        probabilities_b: (N, K), its rows the same images.
        weights: (N,) confidence in the labels, which ``weighted_accuracy`` alone looks at.
    """
    function = METRICS[metric].function
    a, b = (Sample.of(targets, p, weights) for p in (probabilities_a, probabilities_b))
    if not len(a):
        return Interval(None, None, None)
    differences = [
        function(Drawn(a, counts)) - function(Drawn(b, counts))
        for counts in draws(len(a), resampling)
    ]
    value = function(a.drawn()) - function(b.drawn())
    return _interval(value, np.concatenate(differences), resampling)


def draws(images: int, resampling: Resampling) -> Iterator[NDArray[np.float32]]:
    """How often each image occurs in each resample, in chunks (rows, images) of bounded size.

    The same number of images and the same seed give the same draws, so that models measured on the
    same images are measured on the same resamples of them.
    """
    rng = np.random.default_rng(resampling.seed)
    rows = max(1, CHUNK // images)
    for start in range(0, resampling.resamples, rows):
        count = min(rows, resampling.resamples - start)
        # Half as wide as NumPy's own choice, and drawn in half the time.
        drawn = rng.integers(0, images, (count, images), dtype=np.uint32)
        counts = np.empty((count, images), dtype=np.float32)
        for row, cells in zip(counts, drawn, strict=True):
            row[:] = np.bincount(cells, minlength=images)
        yield counts


def _interval(value: ArrayLike, values: Floats, resampling: Resampling) -> Interval:
    defined = values[np.isfinite(values)]
    point = finite(value)
    if point is None or not len(defined):
        return Interval(point, None, None)
    tail = (1 - resampling.confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(point, finite(min(low, value)), finite(max(high, value)))
