"""How spreads are compared: what is alike raises no alarm, what moved does."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.validation.distribution import ALARM_RATE, Numbers, Words, margin, spread_of

RNG_SEED = 20261121


def grey(rng, count):
    """Two heaps, a long tail and ties: as the cells' brightness, sharpness and sizes have them."""
    heaps = np.where(
        rng.random(count) < 0.4, rng.normal(0.4, 0.05, count), rng.gamma(9, 0.08, count)
    )
    return pd.Series(np.where(rng.random(count) < 0.3, heaps.round(1), heaps))


def cells(rng, count):
    return pd.Series(rng.choice(["mono", "poly", "thin", "other"], count, p=[0.4, 0.5, 0.08, 0.02]))


@pytest.mark.parametrize("draw", [grey, cells])
@pytest.mark.parametrize("images", [20, 100, 1000])
def test_a_batch_of_the_same_kind_raises_an_alarm_in_one_run_of_a_hundred_at_most(draw, images):
    rng = np.random.default_rng(RNG_SEED)
    alarms, runs = 0, 300
    for _ in range(runs):
        known, batch = draw(rng, 1500), draw(rng, images)
        spread = spread_of(known)
        allowed = margin(spread.claims(batch), 1, len(batch), len(known))
        alarms += spread.distance(batch) > allowed
    # Above 9 of 300 comes once in a thousand times from a rate of one in a hundred.
    assert alarms <= 9
    assert ALARM_RATE == 0.01


def test_a_batch_that_moved_is_seen_and_by_how_much():
    rng = np.random.default_rng(RNG_SEED)
    known = grey(rng, 2000)
    spread = spread_of(known)
    for images in (60, 400):
        moved = grey(rng, images) * 0.5
        truth = Numbers.of(known).distance(grey(rng, 100_000) * 0.5)
        found = spread.distance(moved)
        allowed = margin(spread.claims(moved), 30, images, 2000)
        assert found - allowed > 0.1
        assert found - allowed < truth  # a lower bound


def test_a_handful_of_images_is_too_few_to_say_anything():
    rng = np.random.default_rng(RNG_SEED)
    spread = spread_of(grey(rng, 2000))
    black = pd.Series([0.0] * 3)
    assert spread.distance(black) == pytest.approx(1.0, abs=0.01)
    assert margin(spread.claims(black), 30, 3, 2000) > 1.0


numbers = st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=1, max_size=40)


@given(numbers, numbers)
@settings(max_examples=60)
def test_the_distance_is_that_of_kolmogorov_and_smirnov_at_the_quantiles(known, found):
    first = pd.Series(known, dtype=float)
    second = pd.Series(found, dtype=float)
    spread = Numbers.of(first)
    if first.isna().all():
        assert spread is None
        return
    curve = [
        abs((first <= v).mean() - (second <= v).mean())
        for v in first.dropna()
        if v in spread.values
    ]
    edge = [abs((first < v).mean() - (second < v).mean()) for v in spread.values]
    assert spread.distance(second) == pytest.approx(max(curve + edge), abs=2e-6)
    assert spread.distance(first) <= 1e-6
    assert 0.0 <= spread.distance(second) <= 1.0 + 1e-9


def test_missing_values_count():
    known = pd.Series([1.0, 2.0, 3.0, 4.0] * 20)
    assert Numbers.of(known).distance(known.mask(known > 2)) == pytest.approx(0.5)


def test_words_that_nobody_has_seen_count_as_moved():
    known = Words.of(pd.Series(["png"] * 90 + ["jpg"] * 10))
    assert known.distance(pd.Series(["gif"] * 5 + ["png"] * 5)) == pytest.approx(0.5)
    assert known.distance(pd.Series(["png"] * 9 + ["jpg"])) == pytest.approx(0.0)


def test_names_that_differ_from_image_to_image_are_no_spread():
    known = Words.of(pd.Series([f"serial {i}" for i in range(100)]))
    assert known.shares == {}
    assert known.distance(pd.Series([f"other {i}" for i in range(100)])) == 0.0


def test_a_constant_has_one_quantile():
    spread = Numbers.of(pd.Series([300] * 50))
    assert spread == Numbers(values=(300.0,), below=(0.0,), at_most=(1.0,))
    assert spread.distance(pd.Series([299] * 10)) == 1.0
    assert spread.distance(pd.Series([301] * 10)) == 1.0


def test_a_histogram_holds_every_image_once():
    rng = np.random.default_rng(RNG_SEED)
    spread = spread_of(grey(rng, 500))
    low, high = spread.values[0], spread.values[-1]
    shares = spread.histogram(np.linspace(low - 0.1, high + 0.1, 12))
    assert shares.min() >= 0.0
    assert shares.sum() == pytest.approx(1.0, abs=1e-5)


def test_margins_shrink_with_images_and_grow_with_comparisons():
    assert margin(math.log(2), 1, 100, 1000) > margin(math.log(2), 1, 400, 1000)
    assert margin(math.log(2), 20, 100, 1000) > margin(math.log(2), 1, 100, 1000)
    assert margin(math.log(2), 1, 0, 1000) == math.inf
