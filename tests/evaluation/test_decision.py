from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigurationError
from pipeline.evaluation.decision import (
    cheapest_threshold,
    cost_matrix,
    expected_threshold,
    find,
    threshold_for_recall,
)
from pipeline.evaluation.report import Told, render
from pipeline.vision.metrics import Sample
from tests.evaluation.synthetic import make_evaluated, make_params

scores = st.lists(st.floats(0, 1, width=16), min_size=1, max_size=40)


@given(scores=scores, seed=st.integers(0, 99), wanted=st.floats(0.01, 1.0))
@settings(max_examples=100, deadline=None)
def test_the_threshold_is_the_highest_that_finds_enough(scores, seed, wanted):
    given_scores = np.array(scores)
    positive = np.random.default_rng(seed).random(len(scores)) < 0.6
    threshold = threshold_for_recall(given_scores, positive, wanted)
    if not positive.any():
        assert threshold is None
        return
    found = given_scores[positive]
    assert (found >= threshold).mean() >= wanted - 1e-9
    assert (found > threshold).mean() < wanted


def test_rounding_asks_for_no_further_image():
    scores = np.arange(20) / 20
    assert threshold_for_recall(scores, np.ones(20, bool), 0.95) == scores[1]


@given(scores=scores, seed=st.integers(0, 99), alarm=st.integers(1, 9), miss=st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_no_threshold_is_cheaper(scores, seed, alarm, miss):
    given_scores = np.array(scores)
    targets = np.random.default_rng(seed).integers(0, 2, len(scores))
    costs = np.array([[0.0, alarm], [miss, 0.0]])

    def cost(threshold: float) -> float:
        return float(costs[targets, (given_scores >= threshold).astype(int)].sum())

    threshold = cheapest_threshold(given_scores, targets, costs)
    edges = np.unique([0.0, 1.0, *given_scores])
    possible = [*(edges[1:] + edges[:-1]) / 2, -np.inf, np.inf]
    assert cost(threshold) == min(cost(t) for t in possible)


@pytest.mark.parametrize(
    ("sure", "costs", "threshold", "word"),
    [
        (1.0, [[0.0, 100.0], [1.0, 0.0]], np.inf, "“disc” never"),
        (0.0, [[0.0, 1.0], [100.0, 0.0]], -np.inf, "“disc” always"),
    ],
)
def test_one_class_can_always_be_the_answer_however_sure_the_network_is(
    tmp_path, monkeypatch, sure, costs, threshold, word
):
    second = np.array([sure, sure, 0.2, 0.3])
    targets = np.array([0, 1, *[int(sure == 0.0)] * 2])
    assert cheapest_threshold(second, targets, np.array(costs)) == threshold

    settings = {"bar": {"disc": costs[0][1]}, "disc": {"bar": costs[1][0]}}
    evaluated = make_evaluated(make_params(tmp_path, decision={"costs": settings, "recall": None}))
    sample = Sample.of(targets, np.stack([1.0 - second, second], axis=1))
    monkeypatch.setitem(evaluated.predictions.samples, "val", sample)
    found = find(
        dataclasses.replace(
            evaluated, results=dataclasses.replace(evaluated.results, temperature=1.0)
        )
    )
    assert found.numbers["costs"]["threshold"] is None
    assert found.numbers["costs"]["always"] == ("bar" if threshold > 0 else "disc")
    json.dumps(found.numbers, allow_nan=False)
    assert word in render(evaluated, {"decision": Told(found, 0.0)}, {"decision": []})


def test_a_threshold_between_the_scores_names_no_class_that_is_always_the_answer(tmp_path):
    params = make_params(tmp_path, decision={"costs": {"disc": {"bar": 2.0}}, "recall": None})
    numbers = find(make_evaluated(params, images=900)).numbers["costs"]
    assert 0 < numbers["threshold"] < 1
    assert numbers["always"] is None


def test_the_threshold_for_true_probabilities_is_elkans():
    assert expected_threshold(np.array([[0, 1], [4, 0]])) == pytest.approx(0.2)
    assert expected_threshold(np.array([[0, 1], [1, 0]])) == pytest.approx(0.5)


def test_a_mistake_that_is_not_named_costs_one():
    matrix = cost_matrix({"b": {"a": 7.0}}, ("a", "b", "c"))
    np.testing.assert_array_equal(matrix, [[0, 1, 1], [7, 0, 1], [1, 1, 0]])


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ({"brr": {"disc": 1.0}}, r"decision\.costs: 'brr' is not a class.*did you mean 'bar'"),
        ({"bar": {"round": 1.0}}, r"'round' is not a class.*bar, disc"),
        ({"bar": {"disc": 0.0}, "disc": {"bar": 0.0}}, "nothing to decide"),
    ],
)
def test_impossible_costs_are_refused(costs, message):
    with pytest.raises(ConfigurationError, match=message):
        cost_matrix(costs, ("bar", "disc"))


@pytest.mark.parametrize("classes", [2, 3])
def test_answers_by_costs_cost_less_where_mistakes_are_not_alike(tmp_path, classes):
    costs = {"disc": {"bar": 20.0}}
    params = make_params(tmp_path, decision={"costs": costs, "recall": None})
    evaluated = make_evaluated(params, images=1500, classes=classes)
    numbers = find(evaluated).numbers["costs"]
    assert numbers["weighed"]["value"] < numbers["plain"]["value"]
    assert numbers["saved"]["low"] > 0
    assert (numbers["threshold"] is None) == (classes > 2)
    if classes == 2:
        assert numbers["threshold"] < 0.25


def test_the_wanted_recall_is_about_reached_on_the_test_images(tmp_path):
    params = make_params(tmp_path, decision={"costs": None, "recall": 0.9})
    found = find(make_evaluated(params, images=3000, classes=3))
    assert set(found.numbers["recall"]) == {"bar", "disc", "cross & <b>ring</b>"}
    for each in found.numbers["recall"].values():
        assert each["recall"]["value"] == pytest.approx(0.9, abs=0.05)
        assert each["precision"]["value"] < each["recall"]["value"]


@pytest.mark.parametrize("classes", [2, 3])
def test_a_class_without_validation_images_gets_no_threshold(tmp_path, monkeypatch, classes):
    params = make_params(tmp_path, decision={"costs": None, "recall": 0.9})
    evaluated = make_evaluated(params, classes=classes)
    val = evaluated.predictions.samples["val"]
    others = val[val.targets != 1]
    monkeypatch.setitem(evaluated.predictions.samples, "val", others)
    found = find(evaluated)
    undefined = {"value": None, "low": None, "high": None}
    assert found.numbers["recall"]["disc"] == {
        "threshold": None,
        **dict.fromkeys(("recall", "precision", "called"), undefined),
    }
    assert found.points == ()
    assert "no validation image of this class" in render(
        evaluated, {"decision": Told(found, 0.0)}, {"decision": []}
    )


def test_where_nothing_is_asked_for_nothing_is_said(tmp_path):
    params = make_params(tmp_path, decision={"costs": None, "recall": None})
    found = find(make_evaluated(params))
    assert found.numbers == {"costs": None, "recall": {}}
    assert found.points == ()
