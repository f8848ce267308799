from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.evaluation.bootstrap import Resampling
from pipeline.evaluation.duel import SHOWN, duel
from pipeline.vision.metrics import METRICS, Sample
from tests.evaluation.synthetic import make_sample

QUICK = Resampling(200, 0.95, 0)
CLASSES = ("bar", "disc", "star")


def fight(first: Sample, second: Sample):
    names = [f"{i:04}.png" for i in range(len(first))]
    return duel(("a", "b"), (first, second), names, CLASSES, metric="accuracy", resampling=QUICK)


def test_images_that_flip_are_counted_and_named():
    targets = np.array([0, 1, 2, 0, 1])
    first = Sample.of(targets, np.eye(3)[[0, 1, 2, 1, 0]])
    second = Sample.of(targets, np.eye(3)[[0, 2, 0, 0, 2]])
    found = fight(first, second)
    assert (found.only_first, found.only_second, found.images) == (2, 1, 5)
    assert [(f.file_name, f.truth, f.mistaken_for) for f in found.won] == [
        ("0001.png", "disc", "star"),
        ("0002.png", "star", "bar"),
    ]
    assert [(f.file_name, f.truth, f.mistaken_for) for f in found.lost] == [
        ("0003.png", "bar", "disc")
    ]
    assert found.difference.value == pytest.approx(0.2)
    assert found.p_value == 1.0


def test_the_difference_is_that_of_the_counts():
    first, second = make_sample(400, 3, skill=2.5), make_sample(400, 3, skill=0.5)
    second = Sample.of(first.targets, second.probabilities[np.argsort(second.targets.argsort())])
    found = fight(first, second)
    assert found.difference.value == pytest.approx(
        (found.only_first - found.only_second) / 400, abs=1e-6
    )
    assert found.difference.value == pytest.approx(
        METRICS["accuracy"].of(first) - METRICS["accuracy"].of(second), abs=1e-6
    )
    assert found.p_value < 0.001
    assert len(found.won) == min(SHOWN, found.only_first)


def test_a_duel_on_related_images_says_so():
    sample = make_sample(100, 3)
    assert not fight(sample, sample).grouped
    related = replace(sample, groups=np.arange(100) // 10)
    found = fight(related, related)
    assert found.grouped
    assert found.difference.high == pytest.approx(1 - 0.025 ** (1 / 10), abs=1e-6)


def test_a_model_does_not_differ_from_itself():
    sample = make_sample(100, 3)
    found = fight(sample, sample)
    unseen = pytest.approx(1 - 0.025 ** (1 / 100), abs=1e-6)
    assert found.as_json() == {
        "images": 100,
        "difference": {"value": 0.0, "low": -found.difference.high, "high": unseen},
        "only_first": 0,
        "only_second": 0,
        "mcnemar_p": 1.0,
    }
