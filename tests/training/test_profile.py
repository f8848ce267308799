"""A profile adds up the time of each part of a step."""

from __future__ import annotations

import pytest
import torch

from pipeline.training import profile
from pipeline.training.profile import NoProfile, Profile, profile_table


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(profile, "time", clock)
    return clock


def test_each_part_has_the_time_until_the_next(clock):
    measured = Profile(torch.device("cpu"))
    for _ in range(2):
        for part, seconds in (("take", 1.0), ("forward", 4.0), ("take", 0.5)):
            measured.enter(part)
            clock.now += seconds
        measured.leave()
        clock.now += 100.0  # between two steps, nobody's
    assert measured.seconds() == {"take": 3.0, "forward": 8.0}


def test_the_table_shows_a_step_and_shares_of_it():
    lines = profile_table({"take": 0.002, "forward": 0.006}, steps=2, images=64).splitlines()
    assert [line.split() for line in lines] == [
        ["take", "1.000", "ms", "25.0", "%"],
        ["forward", "3.000", "ms", "75.0", "%"],
        ["step", "4.000", "ms", "100.0", "%"],
        ["8,000", "images", "per", "second"],
    ]


def test_without_a_profile_the_same_calls_do_nothing():
    nothing = NoProfile()
    nothing.enter("take")
    nothing.leave()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_a_part_is_what_the_gpu_spends():
    device = torch.device("cuda")
    measured = Profile(device)
    big = torch.randn(4096, 4096, device=device)
    measured.enter("large")
    for _ in range(10):
        big @ big
    measured.enter("small")
    big.add_(1)
    measured.leave()
    seconds = measured.seconds()
    assert seconds["large"] > 3 * seconds["small"] > 0
