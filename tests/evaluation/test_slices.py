from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.evaluation.bootstrap import Resampling
from pipeline.evaluation.slices import MIN_IMAGES, slice_by
from pipeline.vision.metrics import Sample
from tests.evaluation.synthetic import make_sample

QUICK = Resampling(resamples=200, confidence=0.95, seed=0)


def sample_with(correct: list[bool]) -> Sample:
    targets = np.arange(len(correct)) % 2
    predicted = np.where(correct, targets, 1 - targets)
    return Sample.of(targets, np.eye(2)[predicted])


def test_a_slice_that_is_clearly_worse_is_flagged_and_named_the_lowest():
    camera = ["north"] * 50 + ["south"] * 50
    sample = sample_with([False] * 40 + [True] * 60)
    slices = slice_by(pd.DataFrame({"camera": camera}), sample, ["camera"], QUICK)
    north, south = slices.found
    assert (north.value, north.images, north.worse) == ("north", 50, True)
    assert (south.value, south.worse) == ("south", False)
    assert north.accuracy.value == pytest.approx(0.2)
    assert slices.lowest is north


def test_a_slice_is_compared_with_the_rest_and_not_with_the_whole():
    camera = ["north"] * 90 + ["south"] * 10
    sample = sample_with([True, False] * 45 + [True] * 10)
    north, _ = slice_by(pd.DataFrame({"camera": camera}), sample, ["camera"], QUICK).found
    expected = stats.fisher_exact([[45, 45], [10, 0]], alternative="less").pvalue
    assert north.p_value == pytest.approx(2 * expected, abs=1e-6)  # two slices are tested
    assert north.worse == (2 * expected < 0.05)


def test_many_slices_seldom_accuse_one_by_chance():
    rng = np.random.default_rng(0)
    flagged = 0
    for _ in range(25):
        table = pd.DataFrame({f"column {i}": rng.integers(0, 4, 200) for i in range(6)})
        sample = sample_with((rng.random(200) < 0.8).tolist())
        found = slice_by(table, sample, list(table), Resampling(100, 0.95, 0)).found
        flagged += any(each.worse for each in found)
    assert flagged <= 4


def test_a_few_images_flag_nothing():
    few = MIN_IMAGES - 1
    column = ["rare"] * few + ["usual"] * 91
    sample = sample_with([False] * few + [True] * 91)
    slices = slice_by(pd.DataFrame({"kind": column}), sample, ["kind"], QUICK)
    assert not any(each.worse for each in slices.found)
    assert slices.lowest is not None
    assert slices.lowest.value == "usual"


def test_many_numbers_become_quarters():
    values = np.random.default_rng(0).gamma(2, 1, 400)
    slices = slice_by(pd.DataFrame({"area": values}), make_sample(400, 2), ["area"], QUICK)
    assert [each.images for each in slices.found] == [100] * 4
    assert slices.found[0].value.split(" to ")[1] == slices.found[1].value.split(" to ")[0]


def test_few_numbers_stay_what_they_are_in_their_order():
    values = np.tile([1.0, 0.0, 1 / 3, 2 / 3], 25)
    slices = slice_by(pd.DataFrame({"p": values}), make_sample(100, 2), ["p"], QUICK)
    assert [each.value for each in slices.found] == ["0", "0.3333", "0.6667", "1"]


def test_numbers_that_differ_late_are_kept_apart():
    few = 12345 + np.arange(100) % 4 + np.where(np.arange(100) % 8 < 4, 0.0, 0.5)
    times = 1.7e9 + 1000.0 * np.arange(100)
    table = pd.DataFrame({"few": few, "time": times, "one": np.full(100, 0.3)})
    slices = slice_by(table, make_sample(100, 2), list(table), QUICK)
    named = [each for each in slices.found if each.column == "few"]
    assert [float(each.value) for each in named] == sorted(set(few.tolist()))
    assert [each.images for each in named] == [(few == value).sum() for value in sorted(set(few))]
    assert [each.images for each in slices.found if each.column == "time"] == [25] * 4
    assert slices.notes == ("one: left out, the same for all images",)


@pytest.mark.parametrize("distinct", [3, 30])
def test_infinite_numbers_are_slices_of_their_own(distinct):
    values = np.arange(60.0) % distinct
    values[:4], values[4:6], values[6] = np.inf, -np.inf, np.nan
    found = slice_by(pd.DataFrame({"a": values}), make_sample(60, 2), ["a"], QUICK).found
    images = {each.value: each.images for each in found}
    assert (images["inf"], images["-inf"], images["(missing)"]) == (4, 2, 1)
    assert sum(images.values()) == 60


def test_missing_values_are_a_slice_of_their_own():
    table = pd.DataFrame({"kind": ["a", None] * 20, "size": [np.nan, *range(39)]})
    slices = slice_by(table, make_sample(40, 2), ["kind", "size"], QUICK)
    missing = {each.column: each.images for each in slices.found if each.value == "(missing)"}
    assert missing == {"kind": 20, "size": 1}


def test_what_cannot_be_sliced_is_left_out_with_the_reason():
    table = pd.DataFrame({"serial": [f"s{i}" for i in range(40)], "site": ["x"] * 40})
    slices = slice_by(table, make_sample(40, 2), ["serial", "site"], QUICK)
    assert slices.found == ()
    assert slices.lowest is None
    assert "40 different values" in slices.notes[0]
    assert "the same for all" in slices.notes[1]


columns = st.one_of(
    st.lists(st.floats(allow_nan=True, width=32), min_size=30, max_size=30),
    st.lists(st.integers(-5, 5), min_size=30, max_size=30),
    st.lists(st.booleans(), min_size=30, max_size=30),
    st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=30, max_size=30),
    st.lists(st.sampled_from([1, "1", 2.5, None, True]), min_size=30, max_size=30),
)


@given(column=columns)
@settings(max_examples=60, deadline=None)
def test_slices_of_any_column_hold_every_image_once(column):
    table = pd.DataFrame({"any": pd.Series(column)})
    slices = slice_by(table, make_sample(30, 2), ["any"], Resampling(100, 0.9, 0))
    assert sum(each.images for each in slices.found) in {0, 30}
    assert bool(slices.found) != bool(slices.notes)
    names = [each.value for each in slices.found]
    assert len(set(names)) == len(names)
