from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation import figures
from pipeline.evaluation.bootstrap import Interval
from pipeline.evaluation.pareto import Offer, draw_front, front


def offer(name: str, cost: float, quality: float | None) -> Offer:
    return Offer(name, cost, Interval(quality, quality, quality))


def test_what_is_dearer_and_worse_is_not_on_the_front():
    offers = [offer("a", 3, 0.9), offer("b", 1, 0.7), offer("c", 2, 0.6), offer("d", 4, 0.9)]
    assert [each.name for each in front(offers)] == ["b", "a"]


def test_equal_offers_are_both_on_the_front_and_an_undefined_one_is_not():
    offers = [offer("a", 1, 0.9), offer("b", 1, 0.9), offer("c", 0.1, None)]
    assert [each.name for each in front(offers)] == ["a", "b"]


pairs = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12)


@given(pairs)
def test_every_offer_is_on_the_front_or_beaten_by_one_that_is(values):
    offers = [offer(f"{i}", float(c), q / 10) for i, (c, q) in enumerate(values)]
    best = front(offers)
    for each in offers:
        beaten = any(
            one.cost <= each.cost
            and one.quality.value >= each.quality.value
            and (one.cost, one.quality.value) != (each.cost, each.quality.value)
            for one in best
        )
        assert (each in best) != beaten


@pytest.mark.filterwarnings("error")
def test_the_front_can_be_drawn():
    offers = [offer("a", 3e9, 0.9), offer("b <i>", 1e6, 0.7), offer("c", 2, None)]
    with figures.style():
        text = figures.svg(draw_front(offers, "Cost", "Quality"), name="front", description="")
    assert "b &lt;i&gt;" in text
    assert ">c<" not in text
