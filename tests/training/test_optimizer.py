"""Optimisers decay what they should, guard each step, and schedules have their shapes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from pipeline.training.optimizer import (
    OPTIMIZERS,
    Optimizer,
    build_optimizer,
    guarded_step,
)


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)
    )


def loss_of(net: nn.Module, scale: float = 1.0) -> torch.Tensor:
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return scale * nn.functional.cross_entropy(net(images), torch.arange(8) % 2)


def weights_of(net: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in net.parameters()]


def build(net: nn.Module, name: str = "sgd", weight_decay: float = 0.0) -> Optimizer:
    return build_optimizer(net, name=name, lr=0.1, momentum=0.9, weight_decay=weight_decay)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_norms_and_biases_are_not_decayed(name):
    net = small_net()
    decayed, free = build(net, name, weight_decay=0.5).groups
    assert {id(p) for p in decayed.parameters} == {id(net[0].weight), id(net[4].weight)}
    assert decayed.weight_decay == 0.5
    assert free.weight_decay == 0.0
    assert len(decayed.parameters) + len(free.parameters) == len(list(net.parameters()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_learns(name):
    net = small_net()
    optimizer = build(net, name)
    optimizer.lr = 0.02
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = loss_of(net)
        loss.backward()
        losses.append(guarded_step(optimizer, loss, max_norm=None).item())
    assert losses[-1] < losses[0] / 4


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_changes_no_weight_and_no_momentum(name, scale):
    net, undisturbed = small_net(), small_net()
    for disturbed, model in ((True, net), (False, undisturbed)):
        optimizer = build(model, name, weight_decay=0.1)
        for step in range(3):
            optimizer.zero_grad()
            if step == 1 and not disturbed:
                continue
            loss = loss_of(model, scale if step == 1 else 1.0)
            loss.backward()
            before = weights_of(model)
            seen = guarded_step(optimizer, loss, max_norm=1.0)
            assert seen.isfinite() == (step != 1)
            changed = not all(map(torch.equal, before, weights_of(model)))
            assert changed == (step != 1)
    assert all(map(torch.equal, weights_of(net), weights_of(undisturbed)))


def test_gradients_that_overflow_are_caught_where_the_loss_is_finite():
    net = small_net()
    optimizer = build(net)
    loss = loss_of(net)
    loss.backward()
    net[4].bias.grad[0] = float("inf")
    before = weights_of(net)
    assert guarded_step(optimizer, loss, max_norm=None).isnan()
    assert all(map(torch.equal, before, weights_of(net)))


THEIRS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True, fused=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.999), fused=True),
}


@pytest.mark.parametrize("name", THEIRS)
def test_every_update_is_that_of_torch_to_the_bit(name):
    ours, theirs = small_net(), small_net()
    optimizer = build(ours, name, weight_decay=0.1)
    decayed = [p for p in theirs.parameters() if p.ndim > 1]
    free = [p for p in theirs.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": free, "weight_decay": 0.0}]
    reference = THEIRS[name](groups)
    for lr in (0.01, 0.05, 0.03, 0.002):
        optimizer.lr = lr
        for group in reference.param_groups:
            group["lr"] = lr
        for net in (ours, theirs):
            net.zero_grad()
            loss = loss_of(net)
            loss.backward()
            if net is ours:
                guarded_step(optimizer, loss, max_norm=None)
            else:
                reference.step()
        assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_training_does_not_import_the_compiler():
    code = """
import sys, torch
from pipeline.training.environment import reproducible
from pipeline.training.optimizer import build_optimizer, guarded_step
with reproducible(torch.device("cpu")):
    net = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(net, name="adamw", lr=0.1, momentum=0.9, weight_decay=0.1)
    loss = net(torch.ones(1, 2)).sum()
    loss.backward()
    guarded_step(optimizer, loss, max_norm=1.0)
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("max_norm", [0.01, 1e6])
def test_clipping_equals_that_of_torch(max_norm):
    ours, theirs = small_net(), small_net()
    for net in (ours, theirs):
        optimizer = build(net)
        loss = loss_of(net, 50.0)
        loss.backward()
        if net is ours:
            guarded_step(optimizer, loss, max_norm=max_norm)
        else:
            nn.utils.clip_grad_norm_(net.parameters(), max_norm)
            guarded_step(optimizer, loss, max_norm=None)
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-7)
