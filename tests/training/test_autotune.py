"""The faster precision is measured, not assumed, and stays pinned."""

from __future__ import annotations

import json
import time

import pytest
import torch

from pipeline.training import autotune
from pipeline.training.autotune import Plan, choose_plan, has_bfloat16, measure

CPU = torch.device("cpu")


class Steps:
    """Steps that take ``seconds`` of their precision; counts those it made."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.made = 0

    def __call__(self, plan: Plan):
        def step() -> None:
            self.made += 1
            time.sleep(self.seconds[plan.precision])

        return step


@pytest.fixture(autouse=True)
def native_bfloat16(monkeypatch):
    monkeypatch.setattr(autotune, "has_bfloat16", lambda _: True)


def choose(folder, steps, *, precision="auto", count=1000, **case):
    return choose_plan(
        steps, precision=precision, device=CPU, steps=count, case=case, folder=folder
    )


@pytest.mark.parametrize(
    ("float32", "bfloat16", "faster"),
    [(0.02, 0.005, "bfloat16"), (0.005, 0.02, "float32"), (0.01, 0.01, "float32")],
)
def test_the_faster_precision_wins_and_a_close_race_goes_to_float32(
    tmp_path, float32, bfloat16, faster
):
    assert choose(tmp_path, Steps(float32=float32, bfloat16=bfloat16)).precision == faster


def test_a_measured_plan_is_pinned_for_its_case_alone(tmp_path):
    first = Steps(float32=0.01, bfloat16=0.001)
    assert choose(tmp_path, first, model="a").precision == "bfloat16"
    assert 0 < first.made <= 2 * (1 + autotune.ROUNDS)
    now_slower = Steps(float32=0.001, bfloat16=0.01)
    assert choose(tmp_path, now_slower, model="a").precision == "bfloat16"
    assert now_slower.made == 0
    assert choose(tmp_path, now_slower, model="b").precision == "float32"
    pinned = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    assert sorted((p["model"], p["precision"]) for p in pinned) == [
        ("a", "bfloat16"),
        ("b", "float32"),
    ]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_chosen_precision_is_not_measured(tmp_path, precision):
    steps = Steps()
    assert choose(tmp_path, steps, precision=precision).precision == precision
    assert steps.made == 0
    assert not list(tmp_path.iterdir())


def test_a_short_run_and_a_machine_without_bfloat16_do_not_measure(tmp_path, monkeypatch):
    steps = Steps()
    assert choose(tmp_path, steps, count=autotune.SHORT_RUN - 1).precision == "float32"
    monkeypatch.setattr(autotune, "has_bfloat16", lambda _: False)
    assert choose(tmp_path, steps).precision == "float32"
    assert steps.made == 0


def test_measuring_stops_at_its_deadline(monkeypatch):
    monkeypatch.setattr(autotune, "SECONDS", 0.0)
    steps = Steps(float32=0.001, bfloat16=0.001)
    plans = {p: steps(Plan(p, 1)) for p in autotune.CANDIDATES}
    assert all(seconds > 0 for seconds in measure(plans, CPU).values())
    assert steps.made == 4


def test_bfloat16_is_native_where_the_processor_says_so(monkeypatch):
    monkeypatch.undo()
    for flags, native in (("flags: fma avx512_bf16", True), ("flags: fma avx2", False)):
        monkeypatch.setattr(autotune, "_cpu_lines", lambda flags=flags: [flags])
        assert has_bfloat16(CPU) is native
