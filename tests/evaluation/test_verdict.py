from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from pipeline.evaluation.bootstrap import Interval, Resampling
from pipeline.evaluation.measure import measure
from pipeline.evaluation.verdict import Verdict, judge
from pipeline.evaluation.wording import number, percent, short_span, span
from tests.evaluation.synthetic import make_packed, make_predictions

THIN = "\N{NARROW NO-BREAK SPACE}"
QUICK = Resampling(200, 0.95, 0)


def verdict_on(
    targets: list[int], predicted: list[int], *, camera: list[str], classes: int = 2
) -> Verdict:
    """The verdict on test images of which ``predicted`` is said with certainty."""
    packed = make_packed(3 * len(targets), classes)
    index = packed.index.assign(
        split=["test"] * len(targets) + ["val"] * (2 * len(targets)),
        target=targets * 3,
        camera=camera * 3,
    )
    packed = dataclasses.replace(packed, index=index, extra_columns=("camera",))
    predictions = make_predictions(packed)
    table = predictions.table.copy()
    certain = pd.DataFrame(np.eye(classes)[predicted * 3])
    order = [2, 0, 1]  # val rows come first
    table[[f"p_{name}" for name in packed.classes]] = np.concatenate(
        [np.array_split(certain, 3)[i] for i in order]
    )
    predictions = dataclasses.replace(predictions, table=table)
    results = measure(predictions, QUICK)
    return judge("net", results, predictions.samples["test"], packed.classes, 0.95)


def test_the_verdict_says_what_is_right_and_where_it_fails():
    targets = [0] * 60 + [1] * 40
    predicted = [0] * 60 + [1] * 10 + [0] * 30
    verdict = verdict_on(targets, predicted, camera=["day"] * 60 + ["night"] * 40)
    assert verdict.headline.startswith(f"net is right on 70.0{THIN}% of the 100 test images (95")
    points = {point.title: point.text for point in verdict.points}
    assert f"“bar” would be right on 60.0{THIN}%" in points["Against guessing"]
    assert f"Of the 40 images of “disc” it finds 25.0{THIN}%" in points["Weakest class"]
    assert "misses 30" in points["Weakest class"]
    assert f"camera = night it gets 25.0{THIN}% right" in points["Weakest slice"]
    assert "clearly fewer" in points["Weakest slice"]
    assert points["Mistakes"].startswith("30 of the 30 were made with a confidence of 90")


def test_a_model_that_only_guesses_is_not_called_better():
    verdict = verdict_on([0] * 60 + [1] * 40, [0] * 100, camera=["day"] * 50 + ["night"] * 50)
    assert "do not show that the model is better" in verdict.points[0].text


def test_a_model_below_guessing_is_called_worse():
    verdict = verdict_on([0] * 90 + [1] * 10, [1] * 100, camera=["day"] * 50 + ["night"] * 50)
    assert "clearly worse" in verdict.points[0].text


def test_the_weakest_of_many_classes_is_named_with_what_it_is_taken_for():
    targets = [0] * 30 + [1] * 30 + [3] * 30
    predicted = [0] * 30 + [1] * 10 + [3] * 15 + [0] * 5 + [3] * 30
    verdict = verdict_on(targets, predicted, camera=["day", "night"] * 45, classes=4)
    weakest = next(point.text for point in verdict.points if point.title == "Weakest class")
    assert "images of “disc”" in weakest
    assert "15 of the 20 others are taken for “a$b$c”" in weakest


def test_a_model_without_mistakes_is_not_accused_of_any():
    targets = [0, 1] * 30
    verdict = verdict_on(targets, targets, camera=["day"] * 30 + ["night"] * 30)
    points = {point.title: point.text for point in verdict.points}
    assert "there are no mistakes" in points["Weakest class"]
    assert "none is below the whole" in points["Weakest slice"]
    assert points["Mistakes"] == "There are none on the test images."


def test_numbers_read_as_people_write_them():
    interval = Interval(0.8533, -0.0172, 0.888)
    assert percent(0.8533) == f"85.3{THIN}%"
    assert percent(None) == number(None, False) == "–"
    assert number(-0.0333) == f"−3.3{THIN}%"
    assert number(0.8533, False) == "0.853"
    assert span(interval) == f"−1.7 to 88.8{THIN}%"
    assert span(interval, False) == "−0.017 to 0.888"
    assert span(Interval(None, None, None)) == "no interval"
    assert short_span(Interval(0.5, 0.41, 0.6)) == "41.0 – 60.0"
    assert short_span(Interval(0.5, 0.41, 0.6), False) == "0.410 – 0.600"
    assert short_span(Interval(None, None, None)) == ""
