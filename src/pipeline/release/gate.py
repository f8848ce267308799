"""The gate: whether a challenger takes the champion's place.

The validation images say whether it is better, the test images only whether something was lost. An
image that the champion learned from says nothing about the champion, so it does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.evaluation.bootstrap import Interval, Resampling, paired_bootstrap
from pipeline.evaluation.significance import mcnemar
from pipeline.vision.metrics import METRICS, Floats, Sample, finite

Split = Literal["val", "test"]


@dataclass(frozen=True)
class Images:
    """The images of one split, N of them."""

    image_ids: NDArray[np.object_]
    """(N,) SHA-256 of each file."""
    file_names: NDArray[np.object_]
    """(N,)"""
    targets: NDArray[np.int64]
    """(N,)"""
    weights: NDArray[np.float32]
    """(N,)"""
    groups: NDArray[np.int64] | None = None
    """(N,) of related images, as in `Sample`."""

    def sample(self, probabilities: Floats) -> Sample:
        """The images with what a model says of them, (N, K)."""
        return Sample.of(self.targets, probabilities, self.weights, self.groups)


@dataclass(frozen=True)
class Candidate:
    """A model before the gate."""

    weights_sha256: str
    classes: tuple[str, ...]
    trained_on: frozenset[str]
    """The ids of the images it learned from."""
    probabilities: Callable[[Split], Floats]
    """What it says of each image of a split, (N, K); asked only where it matters."""


@dataclass(frozen=True)
class Rules:
    """What a challenger has to achieve; the section ``register`` of ``params.yaml``."""

    metric: str
    min_gain: float
    """On validation it has to be better by more than this."""
    max_loss: float
    """On test, the interval of the difference may reach as far below zero as this."""


@dataclass(frozen=True)
class Verdict:
    """What the gate decided, why, and by which numbers."""

    passed: bool
    reasons: tuple[str, ...]
    numbers: dict[str, float | None]

    def as_text(self) -> str:
        return f"{'passed' if self.passed else 'not passed'}: {'; '.join(self.reasons)}"


def decide(
    challenger: Candidate,
    champion: Candidate | None,
    images: dict[Split, Images],
    rules: Rules,
    resampling: Resampling,
) -> Verdict:
    """Judge ``challenger`` against ``champion`` on the same images.

    The first model passes. Equal weights leave nothing to do. Otherwise the challenger passes if it
    is better on validation by more than ``min_gain``, and the paired bootstrap of its test images
    rules out a loss of more than ``max_loss``. Images on which the two do not differ rule out only
    a loss that so many of them would show: 183 one of 0.02.

    Raises:
        PipelineError: the two know different classes, so neither can stand in for the other.
    """
    if champion is None:
        return Verdict(True, ("there was no champion yet",), {})
    if champion.weights_sha256 == challenger.weights_sha256:
        return Verdict(True, ("it is the champion already",), {})
    if champion.classes != challenger.classes:
        raise PipelineError(
            f"the challenger tells {', '.join(challenger.classes)} apart, the champion"
            f" {', '.join(champion.classes)}: neither can stand in for the other. Register it under"
            " a name of its own: set register.model in params.yaml"
        )
    val, seen_val = _differences(challenger, champion, images, "val", rules.metric, resampling)
    test, seen_test = _differences(challenger, champion, images, "test", rules.metric, resampling)
    gained, gain = _gain(val, rules)
    kept, loss = _loss(test, rules)
    left_out = seen_val + seen_test
    note = f"{left_out} images that the champion learned from are left out"
    return Verdict(
        passed=gained and kept,
        reasons=(gain, loss, *([note] if left_out else [])),
        numbers={
            "val_challenger": val.challenger,
            "val_champion": val.champion,
            "val_gain": val.difference.value,
            "test_difference": test.difference.value,
            "test_difference_low": test.difference.low,
            "test_difference_high": test.difference.high,
            "test_only_challenger": test.only_challenger,
            "test_only_champion": test.only_champion,
            "test_mcnemar_p": finite(mcnemar(test.only_challenger, test.only_champion)),
            "val_images": val.images,
            "test_images": test.images,
            "val_images_left_out": seen_val,
            "test_images_left_out": seen_test,
        },
    )


@dataclass(frozen=True)
class _Compared:
    images: int
    challenger: float | None
    champion: float | None
    difference: Interval
    only_challenger: int = 0
    """Images that the challenger alone has right."""
    only_champion: int = 0


def _differences(
    challenger: Candidate,
    champion: Candidate,
    images: dict[Split, Images],
    split: Split,
    metric: str,
    resampling: Resampling,
) -> tuple[_Compared, int]:
    """Both on the images of ``split`` that are new to the champion, and how many are not."""
    given = images[split]
    new = np.array([i not in champion.trained_on for i in given.image_ids], dtype=bool)
    if not new.any():
        return _Compared(0, None, None, Interval(None, None, None)), len(new)
    ours = given.sample(challenger.probabilities(split))[new]
    theirs = given.sample(champion.probabilities(split))[new]
    difference = paired_bootstrap(
        metric,
        ours.targets,
        ours.probabilities,
        theirs.probabilities,
        weights=ours.weights,
        groups=ours.groups,
        resampling=resampling,
    )
    compared = _Compared(
        int(new.sum()),
        _value(ours, metric),
        _value(theirs, metric),
        difference,
        int((ours.correct & ~theirs.correct).sum()),
        int((theirs.correct & ~ours.correct).sum()),
    )
    return compared, int((~new).sum())


def _value(sample: Sample, metric: str) -> float | None:
    value = float(METRICS[metric].function(sample.drawn()))
    return value if np.isfinite(value) else None


def _gain(val: _Compared, rules: Rules) -> tuple[bool, str]:
    name, gain = rules.metric.replace("_", " "), val.difference.value
    if gain is None:
        return False, f"no {name} on validation: {_why_undefined(val)}"
    figures = f"{val.challenger:.4f} against {val.champion:.4f}"
    if gain > rules.min_gain:
        return True, f"{name} on validation is {figures}, better by {gain:.4f}"
    needed = f"more than {rules.min_gain:g} above" if rules.min_gain else "above"
    return False, f"{name} on validation is {figures}, has to be {needed} the champion's"


def _loss(test: _Compared, rules: Rules) -> tuple[bool, str]:
    name, low = rules.metric.replace("_", " "), test.difference.low
    if low is None:
        return False, f"no {name} on test: {_why_undefined(test)}"
    span = f"{test.difference.value:+.4f} (from {low:+.4f} to {test.difference.high:+.4f})"
    if low >= -rules.max_loss:
        return True, f"{name} on {test.images} test images differs by {span}"
    return False, (
        f"{name} on {test.images} test images differs by {span}: a loss of more than"
        f" {rules.max_loss:g} cannot be ruled out"
    )


def _why_undefined(compared: _Compared) -> str:
    if not compared.images:
        return "the champion learned from all of these images, so they cannot tell"
    return f"the {compared.images} images leave it undefined"
