"""In float16 the loss is scaled so that gradients neither vanish nor overflow."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pipeline.errors import PipelineError
from pipeline.training.fit import fit
from pipeline.training.optimizer import OPTIMIZERS, build_optimizer, guarded_step
from pipeline.training.plan import Plan
from pipeline.training.scaling import INITIAL, INTERVAL, LossScale
from tests.training.conftest import trainer_of
from tests.training.test_optimizer import loss_of, small_net, weights_of

HALF = Plan("float16", 1)
DEVICE = torch.device("cpu")


def scaled(net: nn.Module, name: str = "sgd"):
    optimizer = build_optimizer(net, name=name, lr=0.1, momentum=0.9, weight_decay=0.1)
    optimizer.loss_scale = LossScale(DEVICE)
    return optimizer


@pytest.mark.parametrize("max_norm", [None, 0.01, 1e6])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_scale_that_is_a_power_of_two_changes_no_bit_of_an_update(name, max_norm):
    ours, plain = small_net(), small_net()
    for net in (ours, plain):
        optimizer = build_optimizer(net, name=name, lr=0.1, momentum=0.9, weight_decay=0.1)
        if net is ours:
            optimizer.loss_scale = LossScale(DEVICE)
        for _ in range(3):
            optimizer.zero_grad()
            loss = loss_of(net)
            (loss * (INITIAL if net is ours else 1.0)).backward()
            guarded_step(optimizer, loss, max_norm=max_norm)
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        # Clipping divides by another sum of squares.
        assert torch.equal(a, b) if max_norm is None else torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_overflow_leaves_the_update_out_and_is_no_divergence(name):
    net = small_net()
    optimizer = scaled(net, name)
    loss = loss_of(net)
    (loss * INITIAL).backward()
    net[4].bias.grad[0] = math.inf
    before = weights_of(net)
    assert guarded_step(optimizer, loss, max_norm=1.0) == loss
    assert all(map(torch.equal, before, weights_of(net)))
    assert optimizer.steps == 0
    assert optimizer.loss_scale.scale == INITIAL / 2


def test_a_loss_that_is_not_finite_or_a_scale_that_is_used_up_is_a_divergence():
    net = small_net()
    optimizer = scaled(net)
    loss = loss_of(net, math.nan)
    loss.backward()
    assert guarded_step(optimizer, loss, max_norm=None).isnan()

    optimizer, loss = scaled(net), loss_of(net)
    loss.backward()
    net[4].bias.grad[0] = math.nan
    seen = [guarded_step(optimizer, loss, max_norm=None).isnan().item() for _ in range(17)]
    assert seen == [False] * 16 + [True]


def test_the_scale_grows_again_after_enough_updates():
    scale = LossScale(DEVICE)
    scale.adapt(torch.ones(()))
    for _ in range(INTERVAL):
        assert scale.scale == INITIAL / 2
        scale.adapt(torch.zeros(()))
    assert scale.scale == INITIAL


def test_a_training_in_float16_learns_and_overflows_without_ending(make_task):
    trainer = trainer_of(make_task(epochs=8, image_size=16, lr=0.05), plan=HALF)
    trainer.optimizer.loss_scale.scale.fill_(2.0**30)
    losses = [trainer.train_epoch(epoch)[0] for epoch in range(8)]
    assert trainer.optimizer.loss_scale.scale < 2.0**30
    made = int(trainer.optimizer.steps)
    assert 0 < made < 8 * trainer.steps_per_epoch
    assert losses[-1] < losses[0]


def test_a_float16_training_whose_loss_is_not_finite_stops(make_task, monkeypatch):
    trainer = trainer_of(make_task(image_size=16), plan=HALF)
    monkeypatch.setattr(trainer.feed, "policy", lambda images, *_, **__: images * math.nan)
    with pytest.raises(PipelineError, match="not finite"):
        trainer.train_epoch(0)


def test_a_resumed_float16_training_repeats_an_undisturbed_one(make_task):
    task = make_task(epochs=3, image_size=16, precision="float16")
    whole, first, second = (trainer_of(task, plan=HALF) for _ in range(3))
    for trainer in (whole, first):
        trainer.optimizer.loss_scale.scale.fill_(2.0**24)
        trainer.train_epoch(0)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.restore(first.optimizer.state())
    assert second.optimizer.loss_scale.scale == whole.optimizer.loss_scale.scale < 2.0**24
    for epoch in (1, 2):
        assert whole.train_epoch(epoch) == second.train_epoch(epoch)
    for name, tensor in whole.optimizer.state().items():
        assert torch.equal(tensor, second.optimizer.state()[name]), name
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_card_of_a_float16_training_says_so(make_task, tmp_path):
    task = make_task(epochs=1, image_size=16, precision="float16")
    fitted = fit(task, None, plans=tmp_path / "plans")
    assert fitted.plan.precision == "float16"
    assert not (tmp_path / "plans").exists()
