"""Two ways to make a step are measured within a budget, and noise does not choose between them."""

from __future__ import annotations

import random
import weakref
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training import race as module
from pipeline.training.plan import Plan
from pipeline.training.race import MIN_GAIN, SECONDS, SHARE, Race, Unusable, other_wins

FIRST, OTHER = Plan("float32", 1), Plan("bfloat16", 1)
CPU = torch.device("cpu")


class Machine:
    """A clock that steps move: ``seconds`` each, the first time ``warm_up`` times as long."""

    def __init__(self, seconds: dict[Plan, float], *, warm_up: float = 2.0, noise=lambda: 1.0):
        self.now = 0.0
        self.seconds, self.warm_up, self.noise = seconds, warm_up, noise
        self.made = list[Plan]()

    def perf_counter(self) -> float:
        return self.now

    def make_step(self, plan: Plan):
        def step() -> None:
            slower = 1.0 if plan in self.made else self.warm_up
            self.made.append(plan)
            self.now += self.seconds[plan] * slower * self.noise()

        return step

    def race(self, monkeypatch, steps: int) -> Race:
        monkeypatch.setattr(module, "time", self)
        return Race(self.make_step, steps=steps, device=CPU)


@settings(max_examples=200)
@given(
    steps=st.integers(1, 20_000),
    first=st.floats(1e-4, 10.0),
    ratio=st.floats(0.2, 1.5),
    warm_up=st.floats(1.0, 20.0),
)
def test_measuring_stays_within_its_share_of_the_training(steps, first, ratio, warm_up):
    speeds = {FIRST: first, OTHER: first * ratio}
    also = {replace(way, memory_format="contiguous_format"): speeds[way] for way in speeds}
    machine = Machine(speeds | also, warm_up=warm_up)
    with pytest.MonkeyPatch.context() as patch:
        race = machine.race(patch, steps)
        rounds = race.run(FIRST, OTHER)
        chosen = OTHER if rounds and other_wins(*rounds) else FIRST
        race.run(chosen, replace(chosen, memory_format="contiguous_format"))
    # What it takes to learn that it would cost too much: a warm-up and a step; and one of a way
    # that turns out to be slower than was expected.
    learning = first * (warm_up + 2) + max(0.0, first * (ratio - 1.0)) * (warm_up + 2)
    assert machine.now <= max(SHARE * steps * first, learning) + learning + 1e-9
    fewest = first * (1 + ratio) * (warm_up + 3)
    assert machine.now <= max(SECONDS, fewest) + first * (1 + ratio) * (warm_up + 1) + 1e-9
    if SHARE * steps < 7:
        assert machine.now == 0
    if SHARE * steps > 2 * warm_up + 5.01 and ratio <= 1:
        assert rounds is not None


def test_rounds_take_turns_and_are_no_more_than_needed(monkeypatch):
    machine = Machine({FIRST: 0.01, OTHER: 0.005})
    rounds = machine.race(monkeypatch, 100_000).run(FIRST, OTHER)
    assert [len(way) for way in rounds] == [module.MOST] * 2
    assert machine.made[3:] == [FIRST, OTHER] * module.MOST


def test_slow_steps_are_measured_in_long_trainings(monkeypatch):
    machine = Machine({FIRST: 8.0, OTHER: 4.0})
    rounds = machine.race(monkeypatch, 5_000).run(FIRST, OTHER)
    assert [len(way) for way in rounds] == [module.FEWEST] * 2


def test_a_long_preparation_is_begun_only_where_the_training_is_worth_it(monkeypatch):
    seconds = {FIRST: 0.1, OTHER: 0.05}
    machine = Machine(seconds)
    assert machine.race(monkeypatch, 50_000).run(FIRST, OTHER, preparation=120.0) is None
    assert OTHER not in machine.made
    assert Machine(seconds).race(monkeypatch, 70_000).run(FIRST, OTHER, preparation=120.0)


def test_a_way_that_cannot_be_used_is_left_out(monkeypatch, caplog):
    machine = Machine({FIRST: 0.01, OTHER: 0.01})

    def make_step(plan: Plan):
        if plan == OTHER:
            raise Unusable("its gradients differ")
        return machine.make_step(plan)

    race = machine.race(monkeypatch, 10_000)
    race._make_step = make_step
    with caplog.at_level("INFO", logger="pipeline"):
        assert race.run(FIRST, OTHER) is None
    assert "bfloat16" in caplog.text
    assert "its gradients differ" in caplog.text


class Held:
    """What a way has taken of a GPU's memory, in a cycle as graphs are."""

    def __init__(self) -> None:
        self.itself = self


def exhausting(machine: Machine, *ways: Plan, held: list[weakref.ref[Held]]):
    """As the machine's steps; those of ``ways`` find too little memory."""

    def make_step(plan: Plan):
        taken = Held()
        held.append(weakref.ref(taken))
        step = machine.make_step(plan)

        def run(taken=taken) -> None:
            step()
            if plan in ways:
                raise torch.OutOfMemoryError("CUDA out of memory")

        return run

    return make_step


@pytest.fixture
def pretended_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    return torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("too_large", "others_seconds", "wins"),
    [([OTHER], None, None), ([FIRST], 1, True), ([FIRST, OTHER], None, None)],
)
def test_a_way_that_does_not_fit_is_left_out_and_gives_its_memory_back(
    monkeypatch, caplog, pretended_gpu, too_large, others_seconds, wins
):
    machine = Machine({FIRST: 0.01, OTHER: 0.02})
    held = list[weakref.ref[Held]]()
    alive = list[int]()
    monkeypatch.setattr(
        torch.cuda, "empty_cache", lambda: alive.append(sum(ref() is not None for ref in held))
    )
    monkeypatch.setattr(module, "time", machine)
    make_step = exhausting(machine, *too_large, held=held)
    race = Race(make_step, steps=10_000, device=pretended_gpu)
    with caplog.at_level("INFO", logger="pipeline"):
        rounds = race.run(FIRST, OTHER)
    if others_seconds is None:
        assert rounds is None
    else:
        assert rounds[0] == [float("inf")]
        assert len(rounds[1]) == others_seconds
        assert other_wins(*rounds) == wins
    for way in too_large:
        assert f"'{way}' is left out: it does not fit into the memory of cuda:0" in caplog.text
    assert alive == ([1] if too_large == [OTHER] else [0] * len(too_large))


def test_a_way_that_fits_beside_no_other_is_left_out(monkeypatch):
    machine = Machine({FIRST: 0.01, OTHER: 0.005})
    race = machine.race(monkeypatch, 10_000)

    def make_step(plan: Plan):
        step = machine.make_step(plan)

        def run() -> None:
            step()
            if machine.made.count(OTHER) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")

        return run

    race._make_step = make_step
    assert race.run(FIRST, OTHER) is None


def test_a_way_that_has_lost_gives_its_memory_back(monkeypatch, pretended_gpu):
    machine = Machine({FIRST: 0.01, OTHER: 0.005})
    held = list[weakref.ref[Held]]()
    monkeypatch.setattr(module, "time", machine)
    make_step = exhausting(machine, held=held)
    race = Race(make_step, steps=10_000, device=pretended_gpu)
    assert race.run(FIRST, OTHER) is not None
    race.keep(OTHER)
    assert [ref() is None for ref in held] == [True, False]


def test_other_work_on_the_machine_does_not_turn_the_choice(monkeypatch):
    for seed in range(50):
        generator = random.Random(seed)

        def noise(generator=generator) -> float:
            return generator.choice([1.0, 1.0, 1.01, 1.02, 3.0])

        for ratio, wins in ((0.8, True), (1.25, False)):
            machine = Machine({FIRST: 0.02, OTHER: 0.02 * ratio}, noise=noise)
            rounds = machine.race(monkeypatch, 10_000).run(FIRST, OTHER)
            assert other_wins(*rounds) == wins


def test_a_close_race_or_one_lucky_step_goes_to_the_first():
    assert other_wins([1.0, 1.0], [0.9, 0.9])
    assert not other_wins([1.0, 1.0], [1.0 / MIN_GAIN + 0.001] * 2)
    assert not other_wins([1.0, 1.0, 1.0, 1.0], [0.5, 1.1, 1.1, 1.2])
