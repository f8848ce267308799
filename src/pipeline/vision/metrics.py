"""What classifiers are measured by, on one sample or on thousands of resamples of it at once.

A metric takes a `Drawn`: a sample and how often each of its images counts. That one form serves the
plain value (every image once), a bootstrap (a row of counts a resample) and a slice.

Every metric is defined on every sample, or says that it is not: a metric that the images at hand
leave undefined (the recall of a class that is not there) is NaN, and `finite` turns that into
``None`` for JSON. Nothing here warns or raises on a missing class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.vision.ranking import Ranking

Floats = NDArray[np.float64]
CALIBRATION_BINS = 15
"""As in Guo et al., On Calibration of Modern Neural Networks, 2017."""

_SMALLEST = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class Sample:
    """N images: what is true of them, what was predicted, and how sure the truth is."""

    targets: NDArray[np.int64]
    """(N,), from 0 to K - 1."""
    probabilities: Floats
    """(N, K), each row adding up to 1."""
    weights: Floats
    """(N,), not negative: the confidence in each label."""
    groups: NDArray[np.int64] | None = None
    """(N,): images of the same number are related; ``None``: each is on its own."""

    @classmethod
    def of(
        cls,
        targets: ArrayLike,
        probabilities: ArrayLike,
        weights: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Sample:
        """From arrays or CPU tensors of any number type; without ``weights`` every image counts 1.

        Raises:
            ValueError: the shapes do not belong together, or a target is no class.
        """
        wanted = np.asarray(targets).astype(np.int64)
        given = np.asarray(probabilities).astype(np.float64)
        sure = np.ones(len(wanted)) if weights is None else np.asarray(weights).astype(np.float64)
        if given.ndim != 2 or wanted.shape != given.shape[:1] or sure.shape != wanted.shape:
            raise ValueError(
                f"targets {wanted.shape}, probabilities {given.shape} and weights {sure.shape}"
                " must be (N,), (N, K) and (N,)"
            )
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < given.shape[1]:
            raise ValueError(f"targets must lie in 0 to {given.shape[1] - 1}")
        related = None if groups is None else np.asarray(groups).astype(np.int64)
        if related is not None and related.shape != wanted.shape:
            raise ValueError(f"groups {related.shape} must be (N,), as targets {wanted.shape}")
        return cls(wanted, given, sure, related)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, rows: NDArray[Any]) -> Sample:
        """The images at ``rows``, which are positions or a mask."""
        groups = None if self.groups is None else self.groups[rows]
        return Sample(self.targets[rows], self.probabilities[rows], self.weights[rows], groups)

    @property
    def num_classes(self) -> int:
        return self.probabilities.shape[1]

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """(N,): the most probable class, the first of equals."""
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        return self.probabilities.argmax(axis=1)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        return self.predicted == self.targets

    @cached_property
    def confidence(self) -> Floats:
        """(N,): the probability of the predicted class."""
        return np.take_along_axis(self.probabilities, self.predicted[:, None], axis=1)[:, 0]

    @cached_property
    def calibration_bins(self) -> NDArray[np.int64]:
        """(N,): which of `CALIBRATION_BINS` equal bins, open below, the confidence falls into."""
        upper = np.ceil(self.confidence * CALIBRATION_BINS).astype(np.int64) - 1
        return upper.clip(0, CALIBRATION_BINS - 1)

    @cached_property
    def class_columns(self) -> NDArray[np.float32]:
        """(N, 3 K) of 0 and 1: whether the image is of each class, was taken for it, and both."""
        classes = np.arange(self.num_classes)
        actual = self.targets[:, None] == classes
        predicted = self.predicted[:, None] == classes
        columns = np.concatenate([actual, predicted, actual & predicted], axis=1)
        return columns.astype(np.float32)

    @cached_property
    def bin_columns(self) -> NDArray[np.float32]:
        """(N, `CALIBRATION_BINS`) of 0 and 1: whether the confidence falls into each bin."""
        bins = self.calibration_bins[:, None] == np.arange(CALIBRATION_BINS)
        return bins.astype(np.float32)

    @cached_property
    def calibration_gaps(self) -> Floats:
        """(N, `CALIBRATION_BINS`): correct (0 or 1) minus confidence, in the confidence's bin."""
        return np.asarray(self.bin_columns * (self.correct - self.confidence)[:, None])

    @cached_property
    def rankings(self) -> dict[int, Ranking]:
        """Per scored class the images by ascending score; of two classes only class 1 is scored."""
        scored = [1] if self.num_classes == 2 else range(self.num_classes)
        return {k: Ranking.of(self.probabilities[:, k], self.targets == k) for k in scored}

    def drawn(self, counts: ArrayLike | None = None) -> Drawn:
        """This sample with every image once, or image i ``counts[..., i]`` times."""
        if counts is None:
            return Drawn(self, np.ones(len(self), dtype=np.float32))
        return Drawn(self, np.asarray(counts, dtype=np.float32))


@dataclass(frozen=True, eq=False)
class Drawn:
    """A sample in which image i occurs ``counts[..., i]`` times; leading axes are resamples.

    Counts are whole numbers in float32, which matrix products are fast on and which stays exact up
    to 2**24 images. Times a weight for each image they make every metric a weighted one.
    """

    sample: Sample
    counts: NDArray[np.float32]
    """(..., N)."""

    def total(self, of_image: ArrayLike) -> Floats:
        """Sum of a quantity of each image, (N,) or (N, M): (...) or (..., M)."""
        return np.asarray(self.counts @ np.asarray(of_image), dtype=np.float64)

    @cached_property
    def size(self) -> Floats:
        """(...): how many images were drawn."""
        return self.counts.sum(axis=-1, dtype=np.float64)

    @cached_property
    def by_class(self) -> tuple[Floats, Floats, Floats]:
        """Three times (..., K): images of each class, predictions of it, and both at once."""
        first, second, third = np.split(self.total(self.sample.class_columns), 3, axis=-1)
        return first, second, third


def accuracy(drawn: Drawn) -> Floats:
    """Share of right predictions."""
    return ratio(drawn.total(drawn.sample.correct.astype(np.float32)), drawn.size)


def weighted_accuracy(drawn: Drawn) -> Floats:
    """Accuracy in which an image counts as much as its label is trusted.

    Deitsch et al. 2019 measure the solar cells so.
    """
    weights = drawn.sample.weights
    return ratio(drawn.total(weights * drawn.sample.correct), drawn.total(weights))


def recall(drawn: Drawn) -> Floats:
    """(..., K): share of a class's images that were found; NaN for a class without images."""
    actual, _, hits = drawn.by_class
    return ratio(hits, actual)


def precision(drawn: Drawn) -> Floats:
    """(..., K): share of a class's predictions that are right; NaN for one never predicted."""
    _, predicted, hits = drawn.by_class
    return ratio(hits, predicted)


def balanced_accuracy(drawn: Drawn) -> Floats:
    """Mean recall of the classes that have images."""
    return _mean_of_defined(recall(drawn))


def macro_f1(drawn: Drawn) -> Floats:
    """Mean F1 of the classes that have images or predictions."""
    actual, predicted, hits = drawn.by_class
    return _mean_of_defined(ratio(2 * hits, actual + predicted))


def auroc(drawn: Drawn) -> Floats:
    """Area under the ROC curve: how likely a positive is ranked above a negative; ties count half.

    Of two classes, class 1 is the positive one. Of more, the mean of each class against the rest,
    over the classes that have images and are not alone (Hand & Till 2001 discuss the choice).
    """
    return _mean_of_defined(
        np.stack(
            [ratio(*ranking.pairs(drawn.counts)) for ranking in drawn.sample.rankings.values()],
            axis=-1,
        )
    )


def log_loss(drawn: Drawn) -> Floats:
    """Mean negative log-likelihood in nats; no probability counts as less than float32 resolves."""
    sample = drawn.sample
    truth = np.take_along_axis(sample.probabilities, sample.targets[:, None], axis=1)[:, 0]
    return ratio(drawn.total(-np.log(truth.clip(_SMALLEST, 1.0))), drawn.size)


def expected_calibration_error(drawn: Drawn) -> Floats:
    """Mean distance of confidence and accuracy over `CALIBRATION_BINS` bins (Guo et al. 2017)."""
    gaps = drawn.total(drawn.sample.calibration_gaps)
    return ratio(np.abs(gaps).sum(axis=-1), drawn.size)


def confusion_matrix(sample: Sample) -> NDArray[np.int64]:
    """(K, K): how many images of the row's class were taken for the column's."""
    k = sample.num_classes
    cells = np.bincount(sample.targets * k + sample.predicted, minlength=k * k)
    return cells.reshape(k, k)


def finite(value: ArrayLike) -> float | None:
    """A metric for JSON: six decimals, which no order of summation changes; NaN is ``None``."""
    number = float(np.asarray(value))
    return round(number, 6) + 0.0 if math.isfinite(number) else None


@dataclass(frozen=True)
class Metric:
    """One number for a sample. ``function`` maps counts (..., N) to values (...)."""

    title: str
    function: Callable[[Drawn], Floats]
    higher_is_better: bool = True
    in_percent: bool = True
    """People read it as a percentage."""

    def of(self, sample: Sample) -> float:
        """The metric with every image once."""
        return float(self.function(sample.drawn()))


def ratio(part: Floats, whole: Floats) -> Floats:
    """``part / whole``, NaN where ``whole`` is 0."""
    undefined = np.full(np.broadcast(part, whole).shape, np.nan)
    return np.divide(part, whole, out=undefined, where=np.asarray(whole) > 0)


def _mean_of_defined(values: Floats) -> Floats:
    """Mean over the last axis of what is not NaN; NaN if nothing is left."""
    defined = np.isfinite(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(float))


METRICS: dict[str, Metric] = {
    "accuracy": Metric("Accuracy", accuracy),
    "balanced_accuracy": Metric("Balanced accuracy", balanced_accuracy),
    "weighted_accuracy": Metric("Weighted accuracy", weighted_accuracy),
    "macro_f1": Metric("Macro F1", macro_f1),
    "auroc": Metric("AUROC", auroc, in_percent=False),
    "log_loss": Metric("Log loss", log_loss, higher_is_better=False, in_percent=False),
}
"""What every split is measured by. A new metric is a function above and a line here."""
