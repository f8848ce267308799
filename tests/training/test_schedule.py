"""Learning rates and image sizes have their shapes, whatever the number of steps."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training.schedule import SCHEDULES, SIZE_STEP, one_cycle, size_at


@settings(deadline=None)
@given(
    st.sampled_from(sorted(SCHEDULES)),
    st.integers(min_value=1, max_value=400),
    st.floats(min_value=0, max_value=0.95),
)
def test_schedules_rise_through_the_warmup_and_never_again(name, steps, warmup):
    shares = [SCHEDULES[name](step, steps, warmup) for step in range(steps)]
    assert all(0 < share <= 1 for share in shares)
    peak = shares.index(max(shares))
    assert abs(peak - warmup * steps) <= 1 or steps <= 2
    assert shares[:peak] == sorted(shares[:peak])
    assert shares[peak:] == sorted(shares[peak:], reverse=True)


def test_one_cycle_spans_its_published_range():
    shares = [one_cycle(step, 1000, 0.25) for step in range(1000)]
    assert shares[0] == pytest.approx(1 / 25)
    assert shares[250] == pytest.approx(1.0)
    assert shares[-1] == pytest.approx(1e-4)


def test_without_warmup_every_schedule_starts_at_its_peak():
    for schedule in SCHEDULES.values():
        assert schedule(0, 50, 0.0) == 1.0


def test_constant_stays_at_its_peak():
    shares = [SCHEDULES["constant"](step, 100, 0.1) for step in range(100)]
    assert shares[10:] == [1.0] * 90
    assert all(a < b for a, b in itertools.pairwise(shares[:11]))


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(8, 96), st.integers(0, 160), st.floats(0.01, 0.99))
def test_images_grow_in_steps_and_are_full_size_for_the_rest(epochs, start, more, share):
    final = start + more
    sizes = [
        size_at(epoch, epochs, start=start, final=final, share=share) for epoch in range(epochs)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] == start
    assert sizes[-1] <= final
    assert all(size == final or (size - start) % SIZE_STEP == 0 for size in sizes)
    growing = sum(size < final for size in sizes)
    assert growing <= share * epochs + 1


def test_sizes_of_a_known_training():
    sizes = [size_at(epoch, 8, start=48, final=96, share=0.5) for epoch in range(8)]
    assert sizes == [48, 48, 64, 80, 96, 96, 96, 96]
