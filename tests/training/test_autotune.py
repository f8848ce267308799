"""What the settings leave open of a plan is measured, not assumed, and stays pinned."""

from __future__ import annotations

import json

import pytest
import torch

from pipeline.training import autotune, race
from pipeline.training.autotune import Asked, choose_plan, has_bfloat16
from pipeline.training.plan import Plan

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PRECISION = Asked(memory_format="channels_last")


class Steps:
    """Steps that take the product of what their plan's fields cost; counts those it made."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.made = 0

    def __call__(self, plan: Plan):
        def step() -> None:
            self.made += 1
            self.now += 0.001
            for value in (plan.precision, plan.memory_format, plan.execution):
                self.now += self.seconds.get(value, 0.0)

        return step

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """With bfloat16, and with a GPU that is only pretended."""
    monkeypatch.setattr(autotune, "has_bfloat16", lambda _: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "pretended")


@pytest.fixture
def choose(tmp_path, monkeypatch):
    def choose(make_step: Steps, asked=PRECISION, **changes) -> Plan:
        monkeypatch.setattr(race, "time", make_step)
        arguments = {
            "device": CPU,
            "steps": 2_000,
            "executions": ["eager", "compiled", "cuda_graphs"],
            "case": {},
            "folder": tmp_path,
        }
        return choose_plan(make_step, asked, **(arguments | changes))

    return choose


@pytest.mark.parametrize(
    ("float32", "bfloat16", "faster"),
    [(0.02, 0.005, "bfloat16"), (0.005, 0.02, "float32"), (0.01, 0.01, "float32")],
)
def test_the_faster_precision_wins_and_a_close_race_goes_to_float32(
    choose, float32, bfloat16, faster
):
    assert choose(Steps(float32=float32, bfloat16=bfloat16)).precision == faster


def test_each_open_question_is_answered_by_itself(choose, tmp_path):
    steps = Steps(float32=0.002, channels_last=0.002, eager=0.002)
    plan = choose(steps, Asked(), device=GPU, steps=60_000)
    assert plan == Plan("bfloat16", torch.get_num_threads(), "contiguous_format", "cuda_graphs")
    assert len(list(tmp_path.iterdir())) == 3
    on_cpu = choose(steps, Asked())
    assert (on_cpu.precision, on_cpu.execution) == ("bfloat16", "eager")


def test_compiling_is_tried_where_it_can_be_earned_back(choose):
    steps = Steps(eager=0.02, cuda_graphs=0.02)
    asked = Asked("float32", "channels_last")
    assert choose(steps, asked, device=GPU, steps=150_000).execution == "eager"
    assert choose(steps, asked, device=GPU, steps=300_000).execution == "compiled"
    made = steps.made
    assert choose(steps, asked, device=GPU, steps=300_000).execution == "compiled"
    assert choose(steps, asked, device=GPU, steps=100_000).execution == "eager"
    assert steps.made == made  # all of it is pinned, and a short training still does not compile


def test_a_measured_plan_is_pinned_for_its_case_alone(choose, tmp_path):
    first = Steps(float32=0.01, bfloat16=0.001)
    assert choose(first, case={"model": "a"}).precision == "bfloat16"
    now_slower = Steps(float32=0.001, bfloat16=0.01)
    assert choose(now_slower, case={"model": "a"}).precision == "bfloat16"
    assert now_slower.made == 0
    assert choose(now_slower, case={"model": "b"}).precision == "float32"
    pinned = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()]
    assert sorted(p["model"] for p in pinned) == ["a", "b"]
    for p in pinned:
        assert (p["first"]["precision"], p["other"]["precision"]) == ("float32", "bfloat16")
        assert len(p["seconds"]["first"]) == len(p["seconds"]["other"]) >= race.FEWEST


@pytest.mark.parametrize(
    ("too_large", "chosen"), [("float32", "bfloat16"), ("bfloat16", "float32")]
)
def test_what_does_not_fit_into_memory_is_not_chosen_and_not_pinned(
    choose, tmp_path, too_large, chosen
):
    class Large(Steps):
        def __call__(self, plan: Plan):
            if plan.precision == too_large:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().__call__(plan)

    assert choose(Large(float32=0.01, bfloat16=0.01)).precision == chosen
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_what_is_asked_for_is_not_measured(choose, tmp_path, precision):
    steps = Steps()
    plan = choose(steps, Asked(precision, "contiguous", "eager"))
    assert plan == Plan(precision, torch.get_num_threads(), "contiguous_format")
    assert steps.made == 0
    assert not list(tmp_path.iterdir())


def test_a_short_run_and_a_machine_without_bfloat16_do_not_measure(choose, monkeypatch):
    steps = Steps(float32=1.0)
    assert choose(steps, steps=349).precision == "float32"
    monkeypatch.setattr(autotune, "has_bfloat16", lambda _: False)
    assert choose(steps).precision == "float32"
    assert steps.made == 0
    assert choose(steps, device=GPU).precision == "float16"


def test_bfloat16_is_native_where_the_processor_says_so(monkeypatch):
    monkeypatch.undo()
    for flags, native in (("flags: fma avx512_bf16", True), ("flags: fma avx2", False)):
        monkeypatch.setattr(autotune, "_cpu_lines", lambda flags=flags: [flags])
        assert has_bfloat16(CPU) is native
