"""Decisions: from probabilities to answers where mistakes do not all cost the same.

With a matrix of costs the answer is the one of lowest expected cost (Elkan, The foundations of
cost-sensitive learning, 2001), by probabilities at the fitted temperature; of two classes the
threshold is the one that costs least on the validation images. With a wanted recall each class has
the highest threshold that reaches it on the validation images. The test images only report.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigurationError, did_you_mean
from pipeline.evaluation.bootstrap import Interval, bootstrap, mean_of, share_of
from pipeline.evaluation.calibration import calibrated
from pipeline.evaluation.section import Evaluated, Found
from pipeline.evaluation.verdict import Point
from pipeline.evaluation.wording import percent, span
from pipeline.vision.metrics import Floats, finite

_RESOLVED = 1e-6
WHERE = "params.yaml: evaluate.decision.costs"


@dataclass(frozen=True)
class Recalled:
    """A class's threshold for a wanted recall, and what it does on the test images."""

    name: str
    threshold: float | None
    """On the probability of the class, as the network gives it; ``None``, and nothing is measured,
    where no validation image is of the class."""
    recall: Interval
    precision: Interval
    called: Interval
    """Share of all images that are called so."""


@dataclass(frozen=True)
class Costs:
    """The mean cost of an image on the test images."""

    threshold: float | None
    """Of two classes, on the calibrated probability of the second; else ``None``. Infinite where
    one class is always the answer."""
    plain: Interval
    """Of always answering the most probable class."""
    weighed: Interval
    """Of answering by the costs."""
    saved: Interval
    """The first minus the second, on the same images."""


def threshold_for_recall(
    scores: Floats, positive: NDArray[np.bool_], wanted: float
) -> float | None:
    """The highest threshold at which ``wanted`` of the positives score at least as much.

    Args:
        scores: (N,).
        positive: (N,); ``None`` is returned where there is none.
        wanted: share, above 0.
    """
    found = np.sort(scores[positive])
    if not len(found):
        return None
    # 1e-9: 0.95 times 20 must be 19, not one more for its rounding.
    return float(found[len(found) - int(np.ceil(wanted * len(found) - 1e-9))])


def cheapest_threshold(scores: Floats, targets: NDArray[np.int64], costs: Floats) -> float:
    """The threshold from which on the second class costs least on these images.

    Between two neighbouring scores every threshold costs the same; the middle is taken. Of equally
    cheap ones the nearest to the one that is best for true probabilities is taken. Beyond a score
    of 1 it is infinity, by which the first class is always the answer; before one of 0 minus
    infinity, and always the second.

    Args:
        scores: (N,), the probability of the second class.
        targets: (N,), 0 or 1.
        costs: (2, 2), of taking an image of the row's class for the column's.
    """
    order = np.argsort(scores, kind="stable")
    lower, upper = costs[targets[order]].T  # what each answer costs, (N,)
    edges = np.concatenate([[0.0], scores[order], [1.0]])
    # Threshold i lies before the i-th image: those before it are answered by the first class.
    total = np.append(0.0, np.cumsum(lower)) + np.append(np.cumsum(upper[::-1])[::-1], 0.0)
    middle = (edges[1:] + edges[:-1]) / 2
    possible = edges[1:] > edges[:-1]
    # No threshold that six decimals can tell from 0 or 1 lies beyond scores this near to them.
    if edges[1] <= _RESOLVED:
        possible[0], middle[0] = True, -np.inf
    if edges[-2] >= 1.0 - _RESOLVED:
        possible[-1], middle[-1] = True, np.inf
    best = possible & (total <= total[possible].min() + 1e-12)
    return float(min(middle[best], key=lambda each: abs(each - expected_threshold(costs))))


def expected_threshold(costs: Floats) -> float:
    """The threshold of lowest expected cost for probabilities that are true (Elkan, equation 2)."""
    false_alarm, miss = costs[0, 1] - costs[0, 0], costs[1, 0] - costs[1, 1]
    return float(false_alarm / (false_alarm + miss)) if false_alarm + miss else 0.5


def cost_matrix(costs: dict[str, dict[str, float]], classes: tuple[str, ...]) -> Floats:
    """(K, K) from the settings: what it costs to take the row's class for the column's.

    A mistake that is not named costs 1, a right answer nothing.

    Raises:
        ConfigurationError: a name is no class, or no mistake costs anything.
    """
    matrix = 1.0 - np.eye(len(classes))
    for actual, row in costs.items():
        for predicted, cost in row.items():
            for name in (actual, predicted):
                if name not in classes:
                    raise ConfigurationError(
                        f"{WHERE}: '{name}' is not a class of the data"
                        f"{did_you_mean(name, classes) or ';'} its classes are {', '.join(classes)}"
                    )
            matrix[classes.index(actual), classes.index(predicted)] = cost
    if not (matrix - matrix.diagonal()[:, None]).any():
        raise ConfigurationError(
            f"{WHERE}: a mistake costs no more than the right answer, so there is nothing to decide"
        )
    return matrix


def find(evaluated: Evaluated) -> Found:
    """What ``evaluate.decision`` asks for, chosen on validation and measured on test."""
    settings, classes = evaluated.params.evaluate.decision, evaluated.card.classes
    costs, always = None, None
    if settings.costs is not None:
        costs = _costs(evaluated, cost_matrix(settings.costs, classes))
        always = _always(costs.threshold, classes)
    recalled = []
    if settings.recall is not None:
        drawn = [1] if len(classes) == 2 else range(len(classes))
        recalled = [_recalled(evaluated, k, settings.recall) for k in drawn]
    return Found(
        values={"costs": costs, "always": always, "recalled": recalled, "wanted": settings.recall},
        numbers={
            "costs": None
            if costs is None
            else {
                "threshold": None if costs.threshold is None else finite(costs.threshold),
                "always": always,
                "plain": costs.plain.as_json(),
                "weighed": costs.weighed.as_json(),
                "saved": costs.saved.as_json(),
            },
            "recall": {
                each.name: {
                    "threshold": None if each.threshold is None else finite(each.threshold),
                    "recall": each.recall.as_json(),
                    "precision": each.precision.as_json(),
                    "called": each.called.as_json(),
                }
                for each in recalled
            },
        },
        points=_points(recalled),
    )


def _recalled(evaluated: Evaluated, k: int, wanted: float) -> Recalled:
    name = evaluated.card.classes[k]
    val, test = (evaluated.predictions.samples[split] for split in ("val", "test"))
    threshold = threshold_for_recall(val.probabilities[:, k], val.targets == k, wanted)
    if threshold is None:
        return Recalled(name, None, *[Interval(None, None, None)] * 3)
    called = (test.probabilities[:, k] >= threshold).astype(np.float32)
    actual = (test.targets == k).astype(np.float32)

    metrics = {
        "recall": share_of(called, actual),
        "precision": share_of(actual, called),
        "called": share_of(called),
    }
    measured = bootstrap(test, metrics, evaluated.resampling)
    return Recalled(name, threshold, **measured)


def _costs(evaluated: Evaluated, matrix: Floats) -> Costs:
    temperature = evaluated.results.temperature
    val, test = (
        calibrated(evaluated.predictions.samples[split], temperature) for split in ("val", "test")
    )
    threshold = None
    if len(matrix) == 2:
        threshold = cheapest_threshold(val.probabilities[:, 1], val.targets, matrix)
        answers = (test.probabilities[:, 1] >= threshold).astype(np.int64)
    else:
        answers = (test.probabilities @ matrix).argmin(axis=1)
    plain, weighed = (matrix[test.targets, each] for each in (test.predicted, answers))
    metrics = {
        name: mean_of(values)
        for name, values in (("plain", plain), ("weighed", weighed), ("saved", plain - weighed))
    }
    return Costs(threshold, **bootstrap(test, metrics, evaluated.resampling))


def _always(threshold: float | None, classes: tuple[str, ...]) -> str | None:
    """The class that is the answer whatever its probability, if the threshold leaves only one."""
    if threshold is None or np.isfinite(threshold):
        return None
    return classes[0] if threshold > 0 else classes[1]


def _points(recalled: list[Recalled]) -> tuple[Point, ...]:
    if len(recalled) != 1 or recalled[0].threshold is None:
        return ()
    each = recalled[0]
    text = (
        f"With a threshold of {each.threshold:.3f}, chosen on validation, it finds"
        f" {percent(each.recall.value)} ({span(each.recall)}) of “{each.name}” and calls"
        f" {percent(each.called.value)} of all images so."
    )
    return (Point("To miss fewer", text),)
