"""What the numbers say, in sentences: what a model gets right and where it fails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.bootstrap import Interval
from pipeline.evaluation.measure import ClassResult, Results
from pipeline.evaluation.slices import Slice
from pipeline.evaluation.wording import percent, span
from pipeline.vision.metrics import Sample, confusion_matrix

SURE = 0.9
"""Confidence from which on a mistake is called confident."""


@dataclass(frozen=True)
class Point:
    title: str
    text: str


@dataclass(frozen=True)
class Verdict:
    headline: str
    points: tuple[Point, ...]


def judge(
    variant: str, results: Results, sample: Sample, classes: tuple[str, ...], confidence: float
) -> Verdict:
    """The verdict on the test images, ``sample``. ``confidence`` is that of the intervals."""
    overall = results.metrics["test"]["accuracy"]
    headline = (
        f"{variant} is right on {percent(overall.value)} of the {len(sample):,} test images"
        f" ({percent(confidence, 0)} interval {span(overall)})."
    )
    points = [_against_guessing(overall, sample, classes)]
    if weakest := _weakest(results.by_class):
        points.append(_weakest_class(weakest, sample, classes))
    if results.slices.lowest:
        points.append(_weakest_slice(results.slices.lowest, overall))
    points.append(_sureness(sample))
    return Verdict(headline, tuple(points))


def _against_guessing(overall: Interval, sample: Sample, classes: tuple[str, ...]) -> Point:
    support = np.bincount(sample.targets, minlength=len(classes))
    share = float(support.max() / len(sample))
    guess = f"Always answering “{classes[support.argmax()]}” would be right on {percent(share)}"
    if overall.low is not None and overall.low > share:
        comparison = "the model is clearly better than that."
    elif overall.high is not None and overall.high < share:
        comparison = "the model is clearly worse than that."
    else:
        comparison = "these images do not show that the model is better than that."
    return Point("Against guessing", f"{guess}; {comparison}")


def _weakest(by_class: tuple[ClassResult, ...]) -> ClassResult | None:
    """The class with the lowest recall, if there are images of any."""
    present = [each for each in by_class if each.recall.value is not None]
    return min(present, key=lambda each: each.recall.value or 0.0, default=None)


def _weakest_class(weakest: ClassResult, sample: Sample, classes: tuple[str, ...]) -> Point:
    text = (
        f"Of the {weakest.support:,} images of “{weakest.name}” it finds"
        f" {percent(weakest.recall.value)} ({span(weakest.recall)})"
    )
    missed = confusion_matrix(sample)[classes.index(weakest.name)].copy()
    missed[classes.index(weakest.name)] = 0
    if not missed.any():
        return Point("Weakest class", f"{text}, as every other class: there are no mistakes.")
    if len(classes) == 2:
        return Point("Weakest class", f"{text} and misses {missed.sum():,}.")
    taken_for = classes[missed.argmax()]
    most = f"{missed.max():,} of the {missed.sum():,} others are taken for “{taken_for}”"
    return Point("Weakest class", f"{text}; {most}.")


def _weakest_slice(lowest: Slice, overall: Interval) -> Point:
    text = (
        f"Of the {lowest.images:,} images with {lowest.column} = {lowest.value} it gets"
        f" {percent(lowest.accuracy.value)} right ({span(lowest.accuracy)})"
    )
    if lowest.worse:
        return Point("Weakest slice", f"{text}, clearly fewer than of the others.")
    if lowest.accuracy.value is not None and lowest.accuracy.value >= (overall.value or 0.0):
        return Point("Weakest slice", f"{text}: none is below the whole.")
    return Point("Weakest slice", f"{text}; no slice is clearly worse than the rest.")


def _sureness(sample: Sample) -> Point:
    wrong = ~sample.correct
    if not wrong.any():
        return Point("Mistakes", "There are none on the test images.")
    confident = int((wrong & (sample.confidence >= SURE)).sum())
    mean, right = float(sample.confidence.mean()), float(sample.correct.mean())
    return Point(
        "Mistakes",
        f"{confident:,} of the {wrong.sum():,} were made with a confidence of {percent(SURE, 0)} or"
        f" more. On average it is {percent(mean)} sure and {percent(right)} right.",
    )
