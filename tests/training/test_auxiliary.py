"""Networks that give more than logits in training: what they ask for is in the loss, everywhere."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pipeline.training import execution, probe
from pipeline.training.checkpoint import hold, snapshot
from pipeline.training.distributed import Group
from pipeline.training.environment import reproducible
from pipeline.training.fit import Fitted, fit
from pipeline.training.objective import cross_entropy
from pipeline.training.plan import Plan
from pipeline.training.race import Unusable
from pipeline.training.task import Task
from pipeline.vision.models import MODELS
from pipeline.vision.models.outputs import logits_in
from tests.training.conftest import trainer_of
from tests.training.ending import ended_after

WEIGHT = 0.3


class TwoHeads(nn.Module):
    """Features, the logits, and those of an auxiliary head; no image depends on another."""

    def __init__(self, channels: int, num_classes: int, image_size: int) -> None:
        super().__init__()
        self.auxiliary_weight = WEIGHT
        self.features = nn.Sequential(nn.Conv2d(channels, 4, 5, 4), nn.GELU(), nn.Flatten())
        units = 4 * ((image_size - 5) // 4 + 1) ** 2
        self.auxiliary = nn.Linear(units, num_classes)
        self.head = nn.Linear(units, num_classes)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        features = self.features(images)
        logits = self.head(features)
        return (logits, self.auxiliary(features)) if self.training else logits


@pytest.fixture(autouse=True)
def a_model_with_two_heads(monkeypatch):
    monkeypatch.setitem(MODELS, "two_heads", two_heads)


def two_heads(*, channels: int, num_classes: int, image_size: int) -> nn.Module:
    return TwoHeads(channels, num_classes, image_size)


def two_headed(make_task, **settings) -> Task:
    return make_task(model="two_heads", architecture={}, class_weights="none", **settings)


def gradients(trainer) -> Tensor:
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters()])


def by_hand(trainer, batch: Tensor) -> Tensor:
    """The loss of a batch that no policy changes."""
    images = trainer.train.images
    logits, auxiliary = trainer.model.train()(images.take(batch))
    targets, weights = images.targets[batch], trainer.train.weights[batch]
    smoothing = trainer.settings.label_smoothing
    main, head = (
        cross_entropy(each, targets, weights, label_smoothing=smoothing)
        for each in (logits, auxiliary)
    )
    return main + WEIGHT * head


def unchanged(trainer) -> None:
    trainer.feed.policy = lambda pixels, *_, **__: pixels


def test_the_loss_of_each_head_is_added_with_its_weight(make_task):
    trainer = trainer_of(two_headed(make_task))
    unchanged(trainer)
    batch = torch.arange(16)
    expected = by_hand(trainer, batch)
    expected.backward()
    wanted = gradients(trainer)
    loss, hits = trainer.step(batch, 0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(gradients(trainer), wanted)
    assert trainer.model.net.auxiliary.weight.grad.abs().sum() > 0
    assert hits.shape == (16,)


def test_soft_and_hard_labels_give_heads_the_same_loss(make_task):
    hard, soft = trainer_of(two_headed(make_task)), trainer_of(two_headed(make_task))
    soft._mass = torch.nn.functional.one_hot(soft.train.images.targets, 2).float()
    losses = [trainer.step(torch.arange(16), 0)[0].item() for trainer in (hard, soft)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_validation_looks_at_the_logits_alone(make_task):
    trainer = trainer_of(two_headed(make_task))
    before = trainer.validate()
    nn.init.normal_(trainer.model.net.auxiliary.weight, std=100.0)
    assert trainer.validate() == before


def test_accumulated_batches_update_as_one(make_task):
    settings = {"lr": 0.1, "epochs": 2}
    whole = trainer_of(two_headed(make_task, batch_size=24, **settings))
    parts = trainer_of(two_headed(make_task, batch_size=8, gradient_accumulation=3, **settings))
    assert parts.train_epoch(0) == pytest.approx(whole.train_epoch(0), rel=1e-5)
    for a, b in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_parts_of_several_processes_add_up_to_the_whole_batch(make_task):
    batch = torch.arange(15)
    alone = trainer_of(two_headed(make_task, gradient_clip=None))
    whole_loss, _ = alone.step(batch, 0)
    summed, loss = torch.zeros_like(gradients(alone)), 0.0
    for rank in range(2):
        ranks = Group.__new__(Group)
        ranks.rank, ranks.size, shares = rank, 2, []
        # In place of the exchange, which the tests of `Group` have.
        ranks.sum_gradients = lambda _, own, share, shares=shares: (shares.append(share), own)[1]
        trainer = trainer_of(two_headed(make_task, gradient_clip=None), ranks=ranks)
        own_loss, _ = trainer.step(batch, 0)
        summed += gradients(trainer) * shares[0]
        loss += own_loss.item() * shares[0]
    assert loss == pytest.approx(whole_loss.item(), rel=1e-5)
    torch.testing.assert_close(summed, gradients(alone), rtol=1e-4, atol=1e-6)


def test_the_average_follows_the_heads_too(make_task):
    trainer = trainer_of(two_headed(make_task, ema=0.9))
    before = snapshot(trainer.average.model)
    trainer.train_epoch(0)
    name = "net.auxiliary.weight"
    assert not torch.equal(snapshot(trainer.average.model)[name], before[name])


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_gives_nearly_the_same_loss(make_task, precision):
    exact = trainer_of(two_headed(make_task))
    reduced = trainer_of(two_headed(make_task), plan=Plan(precision, 1))
    losses = [trainer.step(torch.arange(16), 0)[0].item() for trainer in (exact, reduced)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_other_passes_that_get_a_head_wrong_are_unusable(make_task, monkeypatch):
    def wrong(model: nn.Module):
        def passes(pixels: Tensor):
            logits, auxiliary = model(pixels)
            return logits, auxiliary * 1.1

        return passes

    monkeypatch.setattr(execution, "_compiled", wrong)
    plan = replace(Plan("float32", 1), execution="compiled")
    with pytest.raises(Unusable, match=r"its (loss|gradients) differ"):
        probe._check(trainer_of(two_headed(make_task), plan=plan), torch.arange(16))
    monkeypatch.setattr(execution, "_compiled", lambda model: model)
    probe._check(trainer_of(two_headed(make_task), plan=plan), torch.arange(16))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_compiled_passes_give_the_heads_too(make_task):
    plan = replace(Plan("float32", 1), execution="compiled")
    probe._check(trainer_of(two_headed(make_task), plan=plan), torch.arange(16))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("way", ["compiled", "cuda_graphs"])
@pytest.mark.parametrize("model", ["two_heads", "capsnet"])
def test_on_a_gpu_other_passes_give_them_too(make_task, way, model):
    settings = {"model": model, "architecture": {}, "device": "cuda"}
    plan = replace(Plan("float32", 1), execution=way)
    trainer = trainer_of(make_task(**settings), plan=plan)
    probe._check(trainer, torch.arange(16, device="cuda"))
    loss, _ = trainer.step(torch.arange(16, device="cuda"), 0)
    assert loss.isfinite()


# Whole trainings


def run(task: Task, folder) -> Fitted:
    with reproducible(task.device), hold(folder) as checkpoints:
        return fit(task, checkpoints, plans=folder.parent / "plans")


RESUMED = {
    "stochastic pooling and dropout": {
        "model": "nielsen",
        "architecture": {
            "maps": [4],
            "dense": [8],
            "dropout": 0.2,
            "pooling": "stochastic",
            "initialisation": "he",
        },
    },
    "capsules": {"model": "capsnet", "architecture": {"width": 4, "primary_maps": 1}},
    "two heads and an average": {"model": "two_heads", "architecture": {}, "ema": 0.9},
    "a spatial transformer": {
        "model": "lenet1",
        "architecture": {"spatial_transformer": True, "high_pass": 0.02},
    },
}


@pytest.mark.parametrize("name", RESUMED)
def test_an_ended_training_goes_on_to_the_same_bits(make_task, tmp_path, monkeypatch, name):
    monkeypatch.setattr("pipeline.training.fit.SAVE_EVERY", 0.0)
    task = make_task(epochs=2, lr=0.005, **RESUMED[name])
    undisturbed = run(task, tmp_path / "undisturbed")
    with ended_after(1):
        run(task, tmp_path / "ended")
    torch.manual_seed(5)
    resumed = run(task, tmp_path / "ended")
    assert resumed.history == undisturbed.history
    theirs = snapshot(undisturbed.network)
    for key, tensor in snapshot(resumed.network).items():
        assert torch.equal(tensor, theirs[key]), key


def test_stochastic_pooling_draws_anew_in_each_epoch(make_task):
    trainer = trainer_of(make_task(**RESUMED["stochastic pooling and dropout"]))
    pixels, drawn = trainer.train.images.take(torch.arange(4)), []
    step = trainer.step

    def first_of_epoch(batch: Tensor, epoch: int):
        if len(drawn) == epoch:
            drawn.append(logits_in(trainer.model(pixels)).detach())
        return step(batch, epoch)

    trainer.step = first_of_epoch
    trainer.optimizer.step = lambda **_: None  # the weights stay as they are
    for epoch in range(2):
        trainer.train_epoch(epoch)
    assert not torch.equal(drawn[0], drawn[1])
