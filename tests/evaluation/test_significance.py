from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.evaluation.significance import EXACT_UP_TO, fewer_right, holm, mcnemar


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 5, 2 / 32),
        (1, 5, 2 * 7 / 64),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
    ],
)
def test_mcnemar_of_few_images_is_worked_out_by_hand(only_first, only_second, p_value):
    assert mcnemar(only_first, only_second) == pytest.approx(p_value)
    assert mcnemar(only_second, only_first) == pytest.approx(p_value)


@given(st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_mcnemar_is_the_binomial_test_of_who_is_right_alone(only_first, only_second):
    pairs = only_first + only_second
    expected = stats.binomtest(only_first, pairs, 0.5).pvalue if pairs else 1.0
    assert mcnemar(only_first, only_second) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("more", [0, 10, 60, 200])
def test_the_two_ways_of_mcnemar_meet(more):
    first = EXACT_UP_TO + more
    approximate = mcnemar(first, EXACT_UP_TO)
    exact = stats.binomtest(first, first + EXACT_UP_TO, 0.5).pvalue
    assert approximate == pytest.approx(exact, abs=2e-3)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_a_part_is_compared_with_the_others_by_fishers_exact_test(right, wrong, other, others):
    expected = stats.fisher_exact([[right, wrong], [other, others]], alternative="less").pvalue
    found = fewer_right(right, right + wrong, other, other + others)
    assert found == pytest.approx(expected, abs=1e-9)


def test_holm_is_worked_out_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    assert len(holm([])) == 0


def test_holm_keeps_the_chance_of_any_false_alarm():
    rng = np.random.default_rng(0)
    alarms = sum(bool((holm(rng.random(12)) < 0.05).any()) for _ in range(2000))
    assert alarms / 2000 < 0.065
