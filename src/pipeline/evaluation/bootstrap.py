"""How sure a metric is: the percentile bootstrap (Efron & Tibshirani, 1993, chapter 13).

Images are drawn with replacement, as many as there are, without regard to class: the number of
images of a class varies between resamples as it would between data sets. A resample is a row of
counts, and all metrics of all resamples are matrix products with those rows, taken in chunks.
Related images (``Sample.groups``) say less than as many others: their groups are drawn, each whole.

Where no image speaks against a share of 0 or 1, or against a difference of 0, none does in any
resample either, and the percentiles would claim certainty. There the end is an exact bound: the
largest share of mistakes by which so many images show none, with half the probability that the
interval leaves out (Clopper & Pearson, The use of confidence or fiducial limits, 1934).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.params import EvaluateParams
from pipeline.vision.metrics import (
    METRICS,
    Drawn,
    Floats,
    Metric,
    Sample,
    accuracy,
    auroc,
    balanced_accuracy,
    finite,
    macro_f1,
    precision,
    ratio,
    recall,
    weighted_accuracy,
)

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

    @property
    def tail(self) -> float:
        """The probability that the interval leaves out on either side."""
        return (1 - self.confidence) / 2


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


@dataclass(frozen=True)
class Share(Metric):
    """A metric that is a share of some of the images."""

    among: NDArray[np.bool_] | None = None
    """(N,) which they are; ``None``: all."""


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
        sample = replace(sample, weights=np.ones(len(sample)))
    for counts in draws(len(sample), resampling, sample.groups):
        drawn = Drawn(sample, counts if weights is None else counts * weights)
        for name, metric in metrics.items():
            values[name].append(metric.function(drawn).reshape(len(counts), -1))
    once = sample.drawn(weights)
    found = {}
    for name, metric in metrics.items():
        points = metric.function(once).reshape(-1)
        columns, sizes = np.concatenate(values[name]).T, _sizes(metric, sample, len(points))
        found[name] = [
            _share(_interval(value, column, resampling), images, resampling)
            for value, column, images in zip(points, columns, sizes, strict=True)
        ]
    return found


def mean_of(of_image: ArrayLike) -> Metric:
    """The mean of a quantity (N,) that each image of a sample has, as a metric."""
    return Metric("Mean", lambda drawn: ratio(drawn.total(of_image), drawn.size))


def share_of(of_image: ArrayLike, among: ArrayLike | None = None) -> Share:
    """The share of the images ``among``, or of all, that are also ``of_image``; (N,) of 0 and 1."""
    hits = np.asarray(of_image)
    if among is None:
        return Share("Share", lambda drawn: ratio(drawn.total(hits), drawn.size))
    them = np.asarray(among)
    return Share(
        "Share",
        lambda drawn: ratio(drawn.total(hits * them), drawn.total(them)),
        among=them.astype(bool),
    )


def paired_bootstrap(
    metric: str,
    targets: ArrayLike,
    probabilities_a: ArrayLike,
    probabilities_b: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    resampling: Resampling,
) -> Interval:
    """``metric`` of model a minus that of model b, both on the same images in every resample.

    What makes an image hard is hard for both, so the interval is narrower than the two models' own
    suggest. Where no image is right by model b alone, the lower end is the largest loss that so
    many images may hide, unless model a is clearly better; the upper end likewise.

    Args:
        metric: a key of `METRICS`.
        targets: (N,) classes.
        probabilities_a: (N, K).
        probabilities_b: (N, K), its rows the same images.
        weights: (N,) confidence in the labels, which ``weighted_accuracy`` alone looks at.
        groups: (N,) of related images, as in `Sample`.
    """
    function = METRICS[metric].function
    a, b = (Sample.of(targets, p, weights, groups) for p in (probabilities_a, probabilities_b))
    if not len(a):
        return Interval(None, None, None)
    differences = [
        function(Drawn(a, counts)) - function(Drawn(b, counts))
        for counts in draws(len(a), resampling, a.groups)
    ]
    value = function(a.drawn()) - function(b.drawn())
    interval = _interval(value, np.concatenate(differences), resampling)
    (sizes,) = _sizes(METRICS[metric], a, 1)
    if sizes is None or interval.low is None or interval.high is None:
        return interval
    unseen, low, high = _unseen(sizes, resampling), interval.low, interval.high
    if low == 0 and not (b.correct & ~a.correct).any():
        low = -unseen
    if high == 0 and not (a.correct & ~b.correct).any():
        high = unseen
    return Interval(interval.value, finite(low), finite(high))


def draws(
    images: int, resampling: Resampling, groups: NDArray[np.int64] | None = None
) -> Iterator[NDArray[np.float32]]:
    """How often each image occurs in each resample, in chunks (rows, images) of bounded size.

    The same number of images and the same seed give the same draws, so that models measured on the
    same images are measured on the same resamples of them. Of ``groups`` (images,) as many are
    drawn as there are, each with all its images.
    """
    if groups is not None:
        names, members = np.unique(groups, return_inverse=True)
        for counts in draws(len(names), resampling):
            rows = max(1, CHUNK // images)
            for start in range(0, len(counts), rows):
                yield counts[start : start + rows, members]
        return
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
    low, high = np.quantile(defined, [resampling.tail, 1 - resampling.tail])
    return Interval(point, finite(min(low, value)), finite(max(high, value)))


def _share(interval: Interval, sizes: Floats | None, resampling: Resampling) -> Interval:
    """``interval`` with an exact end where it is of a share that is 0 or 1."""
    if sizes is None or interval.value not in {0.0, 1.0} or not sizes.any():
        return interval
    unseen = _unseen(sizes, resampling)
    if interval.value:
        return Interval(1.0, finite(1 - unseen), 1.0)
    return Interval(0.0, 0.0, finite(unseen))


def _unseen(sizes: Floats, resampling: Resampling) -> float:
    """The largest mean over classes of their shares of mistakes with which ``sizes`` (K,) images of
    them show none with a probability of ``resampling.tail``.

    Of one class of n images 1 - tail ** (1 / n). Of several it is largest where a class's share of
    right images is proportional to its size, or 1.
    """
    present = np.sort(sizes[sizes > 0])
    largest = 0.0
    for count in range(1, len(present) + 1):
        some = present[:count]
        scale = np.exp((np.log(resampling.tail) - some @ np.log(some)) / some.sum())
        if scale * some[-1] <= 1:
            largest = float((1 - scale * some).sum() / len(present))
    return largest


def _sizes(metric: Metric, sample: Sample, values: int) -> list[Floats] | list[None]:
    """Of each value of ``metric`` how many images, or groups, of each class it is the mean share
    of; ``None`` where it is no share."""
    if isinstance(metric, Share):
        return [np.array([_independent(sample, metric.among)])]
    count = _SIZES.get(metric.function)
    return [None] * values if count is None else count(sample)


def _all_images(sample: Sample) -> list[Floats]:
    return [np.array([_independent(sample)])]


def _of_classes(sample: Sample) -> list[Floats]:
    return [np.concatenate(_of_each_class(sample))]


def _of_each_class(sample: Sample) -> list[Floats]:
    return [np.array([_independent(sample, sample.targets == k)]) for k in _classes(sample)]


def _called_each_class(sample: Sample) -> list[Floats]:
    return [np.array([_independent(sample, sample.predicted == k)]) for k in _classes(sample)]


def _classes(sample: Sample) -> range:
    return range(sample.num_classes)


def _independent(sample: Sample, which: NDArray[np.bool_] | None = None) -> float:
    """How many images there are, or how many groups they are of."""
    if sample.groups is None:
        return float(len(sample) if which is None else which.sum())
    return float(len(np.unique(sample.groups if which is None else sample.groups[which])))


_SIZES: dict[Callable[[Drawn], Floats], Callable[[Sample], list[Floats]]] = {
    accuracy: _all_images,
    weighted_accuracy: _all_images,
    recall: _of_each_class,
    precision: _called_each_class,
    balanced_accuracy: _of_classes,
    # No shares, but means over classes that mistakes move about as far.
    macro_f1: _of_classes,
    auroc: _of_classes,
}
