"""Other ways to make the network's passes give what plain ones give, or are not taken."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigurationError, PipelineError
from pipeline.training import execution, probe
from pipeline.training.convolution import _Conv2d
from pipeline.training.distributed import ALONE
from pipeline.training.execution import disagreement, logits_of, obstacle, training_passes
from pipeline.training.plan import Plan
from pipeline.training.race import Unusable
from pipeline.training.task import build_network, build_splits
from tests.training.conftest import trainer_of
from tests.training.test_optimizer import small_net

CPU, GPU = torch.device("cpu"), torch.device("cuda")
EAGER = Plan("float32", 1)
COMPILED = replace(EAGER, execution="compiled")
GRAPHS = replace(EAGER, execution="cuda_graphs")

needs_gpu = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


def pixels(count: int = 8) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def loss(logits: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits.float(), torch.arange(len(logits)) % 2)


@pytest.mark.parametrize(
    ("name", "device", "changes", "why"),
    [
        ("eager", CPU, {}, None),
        ("cuda_graphs", CPU, {}, "needs a GPU"),
        ("cuda_graphs", GPU, {}, None),
        ("cuda_graphs", GPU, {"processes": 2}, "one process"),
        ("cuda_graphs", GPU, {"accumulation": 4}, "gradient_accumulation"),
    ],
)
def test_what_is_in_the_way_is_said(name, device, changes, why):
    found = obstacle(name, device, **({"processes": 1, "accumulation": 1} | changes))
    assert (found is None) == (why is None)
    assert why is None or why in found


def test_without_a_compiler_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(execution.shutil, "which", lambda _: None)
    assert "C++ compiler" in obstacle("compiled", CPU, processes=1, accumulation=1)


def test_an_impossible_execution_is_refused(make_task, tmp_path):
    task = make_task(execution="cuda_graphs")
    with pytest.raises(ConfigurationError, match=r"variants\.tiny\.execution.*needs a GPU"):
        probe.plan_for(task, build_network(task), None, folder=tmp_path, ranks=ALONE)


def test_a_chosen_execution_is_compared_with_plain_passes_too(make_task, tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "_has_compiler", lambda: True)
    task = make_task(execution="compiled")
    train, val = build_splits(task)

    def plan() -> Plan:
        def build_trainer(model, plan, _):
            return task.trainer(model, task.settings, plan, task.policy, train=train, val=val)

        return probe.plan_for(
            task, build_network(task), build_trainer, folder=tmp_path, ranks=ALONE
        )

    monkeypatch.setattr(execution, "_compiled", lambda model: model)
    assert plan().execution == "compiled"
    monkeypatch.setattr(execution, "_compiled", Stale)
    with pytest.raises(
        ConfigurationError, match=r"variants\.tiny\.execution: compiled .* differ by"
    ):
        plan()

    def broken(_):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(execution, "_compiled", broken)
    with pytest.raises(
        PipelineError, match=r"^train\.execution: .* \(RuntimeError: no kernel\); set"
    ):
        plan()


def test_only_full_batches_take_the_other_way(monkeypatch):
    net, seen = small_net(), []
    monkeypatch.setattr(
        execution,
        "_compiled",
        lambda model: lambda batch: (seen.append(len(batch)), model(batch))[1],
    )
    passes = training_passes(net, COMPILED, images=8, image_size=8)
    for count in (8, 3, 8):
        batch = pixels(count)
        assert torch.equal(passes(batch).detach(), logits_of(net, EAGER, batch).detach())
    assert seen == [8, 8]


def test_what_cannot_be_compiled_is_said_in_one_line(monkeypatch):
    def broken(_):
        raise RuntimeError("no kernel\nand a long story")

    monkeypatch.setattr(execution, "_compiled", lambda _: broken)
    passes = training_passes(small_net(), COMPILED, images=8, image_size=8)
    with pytest.raises(PipelineError, match=r"compiled is not possible .*no kernel\); set it"):
        passes(pixels())


def test_what_was_measured_and_is_not_possible_any_more_gives_way_to_plain_passes(
    monkeypatch, caplog
):
    def broken(_):
        raise RuntimeError("no kernel\nand a long story")

    monkeypatch.setattr(execution, "_compiled", lambda _: broken)
    net = small_net()
    passes = training_passes(net, COMPILED, images=8, image_size=8, chosen=False)
    with caplog.at_level("WARNING", logger="pipeline"):
        for _ in range(2):
            assert torch.equal(passes(pixels()).detach(), logits_of(net, EAGER, pixels()).detach())
    assert caplog.text.count("no kernel); its passes are plain ones") == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_comparison_takes_equal_passes_for_equal(precision):
    net = small_net().append(nn.Dropout(0.5))
    before = [tensor.clone() for tensor in net.state_dict().values()]
    plan = replace(COMPILED, precision=precision)
    make = lambda model, by, **shape: training_passes(  # noqa: E731
        model, replace(by, execution="eager"), **shape
    )
    assert disagreement(net, plan, pixels(), loss, make=make) is None
    assert all(map(torch.equal, before, net.state_dict().values()))
    assert net.training


class Stale(nn.Module):
    """Looks at the first batch it got, over and over, as a graph without its copy would."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.first = model, None

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.first = batch if self.first is None else self.first
        return self.model(self.first)


def without_buffers(model: nn.Module):
    def passes(batch: torch.Tensor) -> torch.Tensor:
        before = [buffer.clone() for buffer in model.buffers()]
        logits = model(batch)
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.data = value
        return logits

    return passes


@pytest.mark.parametrize(
    ("way", "what"),
    [
        (Stale, "loss|gradients"),
        (lambda model: lambda batch: model(batch) * 1.1, "loss|gradients"),
        (
            lambda model: lambda batch: model(batch.detach()).detach() + 0 * model(batch),
            "gradients",
        ),
        (without_buffers, "buffers"),
    ],
)
def test_the_comparison_finds_what_differs(way, what):
    def make(model, plan, **_):
        return way(model) if plan.execution == "compiled" else model

    found = disagreement(small_net(), COMPILED, pixels(), loss, make=make)
    assert found is not None
    assert any(word in found for word in what.split("|"))


def test_a_way_that_fails_its_check_is_unusable(make_task, monkeypatch):
    def broken(_):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(execution, "_compiled", broken)
    trainer = trainer_of(make_task(), plan=COMPILED)
    with pytest.raises(Unusable, match="no kernel"):
        probe._check(trainer, torch.arange(16))
    probe._check(trainer_of(make_task()), torch.arange(16))


@pytest.mark.parametrize(("precision", "products"), [("float32", False), ("bfloat16", True)])
def test_convolutions_are_sped_up_where_they_can_be(make_task, precision, products):
    trainer = trainer_of(make_task(), plan=Plan(precision, 1))
    assert any(isinstance(layer, _Conv2d) for layer in trainer.model.modules()) == products


def test_a_contiguous_plan_trains_on_contiguous_images(make_task, monkeypatch):
    trainer = trainer_of(make_task(), plan=Plan("float32", 1, "contiguous_format"))
    weight = next(p for p in trainer.model.parameters() if p.ndim == 4 and p.shape[1] > 1)
    assert weight.is_contiguous()
    loss, _ = trainer.step(torch.arange(16), 0)
    assert loss.isfinite()


def test_what_does_not_compile_imports_no_compiler():
    code = """
import sys
import pipeline.training.fit, pipeline.training.probe
from pipeline.evaluation.cost import measure_cost
from pipeline.vision.models import build, check_architecture
check_architecture("small_cnn", image_size=32, architecture={}, where="x")
sizes = {"channels": 1, "num_classes": 2, "image_size": 32}
network = build("small_cnn", **sizes, architecture={}, mean=[0.5], std=[0.5])
measure_cost(network.eval(), 32)
assert "torch._dynamo" not in sys.modules
assert "torch._inductor" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.slow
@pytest.mark.skipif(not execution._has_compiler(), reason="needs a C++ compiler")
def test_compiled_passes_agree_with_plain_ones():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))  # the smaller, the sooner compiled
    assert disagreement(net, COMPILED, pixels(), loss) is None


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=needs_gpu) for n in ("cuda_graphs", "compiled")]
)
def test_on_a_gpu_other_passes_agree_with_plain_ones(name, precision):
    net = small_net().cuda()
    plan = Plan(precision, 1, execution=name)

    def on_gpu(logits: torch.Tensor) -> torch.Tensor:
        targets = torch.arange(len(logits), device=logits.device) % 2
        return nn.functional.cross_entropy(logits.float(), targets)

    assert disagreement(net, plan, pixels().cuda(), on_gpu) is None


@pytest.mark.parametrize("dropout", [pytest.param(0.3, marks=needs_gpu)])
def test_a_resumed_training_with_graphs_repeats_an_undisturbed_one(make_task, dropout):
    task = make_task(device="cuda", architecture={"width": 8, "dropout": dropout})
    whole, first, second = (trainer_of(task, plan=GRAPHS) for _ in range(3))
    whole.train_epoch(0)
    first.train_epoch(0)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.restore(first.optimizer.state())
    assert whole.train_epoch(1) == second.train_epoch(1)
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
