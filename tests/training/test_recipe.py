"""Each part of the recipe does what it says, and all of them together resume to the bit."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.errors import ConfigurationError, DataRefused
from pipeline.training.checkpoint import hold, snapshot
from pipeline.training.environment import reproducible
from pipeline.training.fit import Fitted, fit
from pipeline.training.history import Epoch, finished
from pipeline.training.objective import cross_entropy, soft_cross_entropy
from pipeline.training.task import Task, build_network, build_splits
from pipeline.vision.augmentation import build_policy
from pipeline.vision.batches import resize
from pipeline.vision.mixing import neighbours
from pipeline.vision.models import MODELS
from pipeline.vision.models.pretrained import Pretrained
from tests.training.conftest import trainer_of
from tests.training.ending import ended_after

MIXED = {
    "flip": {"horizontal": 0.5},
    "mixup": {"alpha": 0.4, "probability": 0.5},
    "cutmix": {"alpha": 1.0, "probability": 0.4},
}


def normless(*, channels: int, num_classes: int, image_size: int) -> nn.Module:
    """Each image's logits depend on it alone."""
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * ((image_size - 1) // 2) ** 2, num_classes),
    )


@pytest.fixture(autouse=True)
def a_model_without_norms(monkeypatch):
    monkeypatch.setitem(MODELS, "normless", normless)


def plain(make_task, **settings) -> Task:
    """Of a network without norms or dropout."""
    return make_task(model="normless", architecture={}, **settings)


def with_columns(task: Task, **columns) -> Task:
    index = task.packed.index.assign(**columns)
    extra = (*task.packed.extra_columns, *columns)
    packed = dataclasses.replace(task.packed, index=index, extra_columns=extra)
    return dataclasses.replace(task, packed=packed)


def with_policy(task: Task, policy: dict[str, dict[str, float]]) -> Task:
    return dataclasses.replace(task, policy=build_policy(policy, where="augment.policy"))


def weights_of(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def run(task: Task, folder) -> Fitted:
    with reproducible(task.device), hold(folder) as checkpoints:
        return fit(task, checkpoints, plans=folder.parent / "plans")


def assert_same_bits(one: Fitted, other: Fitted) -> None:
    assert one.history == other.history
    theirs = snapshot(other.network)
    for name, tensor in snapshot(one.network).items():
        assert torch.equal(tensor, theirs[name]), name


# Accumulation


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 6), (8, 3), (5, 5), (24, 1)])
def test_accumulated_batches_update_as_one_batch_of_them_all(make_task, batch_size, accumulation):
    settings = {"class_weights": "none", "lr": 0.1}
    whole = trainer_of(plain(make_task, batch_size=25 if batch_size == 5 else 24, **settings))
    parts = trainer_of(
        plain(make_task, batch_size=batch_size, gradient_accumulation=accumulation, **settings)
    )
    assert parts.steps_per_epoch == whole.steps_per_epoch == 3  # the last group is incomplete
    assert parts.lr(1) == whole.lr(1)
    expected, got = whole.train_epoch(0), parts.train_epoch(0)
    assert got == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(
        weights_of(parts.model), weights_of(whole.model), rtol=1e-4, atol=1e-5
    )


def test_a_group_that_is_not_finite_is_named_whole_and_makes_no_update(make_task, monkeypatch):
    monkeypatch.setattr("pipeline.training.feed.AHEAD", 0)  # the policy has a call for each pass
    trainer = trainer_of(make_task(batch_size=8, gradient_accumulation=3))
    policy, calls = trainer.feed.policy, []

    def broken(images, keys, **kwargs):
        calls.append(keys)
        changed = policy(images, keys, **kwargs)
        return changed * math.nan if len(calls) == 5 else changed  # the second group's second

    monkeypatch.setattr(trainer.feed, "policy", broken)
    with pytest.raises(Exception, match="epoch 1, step 2: ") as stopped:
        trainer.train_epoch(0)
    assert str(stopped.value).count("images/") == 24
    assert weights_of(trainer.model).isfinite().all()


# Progressive resizing


def test_images_grow_on_the_device_and_are_validated_full_size(make_task, monkeypatch):
    task = make_task(epochs=6, progressive_resizing={"start": 16, "share": 0.5}, image_size=32)
    trainer = trainer_of(task)
    seen: list[set[int]] = []
    forward = trainer.model.forward

    def recorded(images):
        seen[-1].add(images.shape[-1])
        return forward(images)

    monkeypatch.setattr(trainer.model, "forward", recorded)
    for epoch in range(6):
        seen.append(set())
        trainer.train_epoch(epoch)
        seen.append(set())
        trainer.validate()
    assert seen[::2] == [{16}, {16}, {16}, {32}, {32}, {32}]
    assert seen[1::2] == [{32}] * 6


def test_a_smaller_store_is_what_resizing_gives(make_task):
    train, _ = build_splits(make_task())
    positions = torch.tensor([3, 0, 5])
    small = train.images.resized(16)
    expected = resize((train.images.take(positions) * 255).byte().permute(0, 2, 3, 1), 16)
    assert torch.equal(small.take(positions), expected.permute(0, 3, 1, 2).float().div(255))
    assert train.images.take(positions).shape[-1] == 32
    small._store = None  # as where the images do not fit into memory
    assert torch.equal(small.take(positions), expected.permute(0, 3, 1, 2).float().div(255))


def test_a_network_that_cannot_begin_so_small_is_refused(make_task):
    task = make_task(progressive_resizing={"start": 8, "share": 0.5}, model="torchvision:alexnet")
    task = dataclasses.replace(
        task, settings=task.settings.model_copy(update={"architecture": {}, "image_size": 96})
    )
    with pytest.raises(ConfigurationError, match=r"progressive_resizing.*cannot take 8 px"):
        build_network(task)


# Early stopping


def epochs_of(*validations: float) -> list[Epoch]:
    return [Epoch(i + 1, 0.1, 1.0, 0.5, 1.0, v, v) for i, v in enumerate(validations)]


@pytest.mark.parametrize(
    ("validations", "ended"),
    [
        ([], False),
        ([0.5], False),
        ([0.5, 0.4], False),
        ([0.5, 0.4, 0.5], True),  # as good is not better
        ([0.5, 0.4, 0.6], False),
        ([0.5, 0.6, 0.55, 0.58], True),
        ([0.1] * 10, True),
    ],
)
def test_a_training_stops_where_nothing_gets_better(validations, ended):
    assert finished(epochs_of(*validations), epochs=10, patience=2) == ended
    assert finished(epochs_of(*validations), epochs=10, patience=None) == (len(validations) == 10)


def test_a_stopped_training_is_finished_when_it_is_run_again(make_task, tmp_path, monkeypatch):
    told = iter([(1.0, 0.5, 0.5), (0.9, 0.7, 0.7), (0.9, 0.6, 0.6), (0.9, 0.7, 0.7)])
    monkeypatch.setattr("pipeline.training.loop.Trainer.validate", lambda _: next(told))
    task = make_task(epochs=12, early_stopping=2)
    first = run(task, tmp_path / "key")
    assert len(first.history) == 4
    assert first.history[3].lr == trainer_of(task).lr(4 * 4 - 1)  # of a schedule of 12 epochs
    monkeypatch.setattr("pipeline.training.loop.Trainer.step", None)
    assert_same_bits(first, run(task, tmp_path / "key"))


# Freezing


def test_what_is_frozen_keeps_its_bits_and_has_no_state(make_task):
    task = make_task(freeze=["stem.*", "stages.[01].*"], ema=0.9, optimizer="adamw")
    trainer = trainer_of(task)
    before = snapshot(trainer.model)
    trainer.train_epoch(0)
    frozen = ("net.stem.", "net.stages.0.", "net.stages.1.")
    for model in trainer.models:
        after = snapshot(model)
        kept = {name for name in after if torch.equal(before[name], after[name])}
        assert kept == {name for name in after if name.startswith(frozen)}
    assert all(p.grad is None for p in trainer.model.parameters() if not p.requires_grad)
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    state = sum(tensor.numel() for tensor in trainer.optimizer.state().values())
    assert state == 2 * trained + 1


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["stagse.*"], r"'stagse\.\*' matches no parameter; did you mean 'stages\.\*'"),
        (["stem"], "'stem' matches no parameter.*'stem"),
        (["head.weigth"], r"did you mean 'head\.weight'"),
        (["*"], r"leaves nothing to train.*head\.\*"),
    ],
)
def test_patterns_that_freeze_nothing_or_everything_are_refused(make_task, patterns, message):
    with pytest.raises(ConfigurationError, match=rf"variants\.tiny\.freeze: .*{message}"):
        build_network(make_task(freeze=patterns))


# Soft labels and mixed targets


def test_soft_labels_of_zero_and_one_are_the_hard_ones(make_task):
    task = make_task(class_weights="balanced")
    index = task.packed.index
    weights = (0.5 + np.arange(len(index)) % 3).astype(np.float32)
    task = with_columns(task, weight=weights, probability=index["target"].astype(float))
    soft = dataclasses.replace(
        task, settings=task.settings.model_copy(update={"soft_labels": "probability"})
    )
    for hard_split, soft_split in zip(build_splits(task), build_splits(soft), strict=True):
        torch.testing.assert_close(hard_split.weights, soft_split.weights)
        logits = torch.randn(len(hard_split), 2)
        expected = cross_entropy(
            logits, hard_split.images.targets, hard_split.weights, label_smoothing=0.1
        )
        got = soft_cross_entropy(logits, soft_split.mass, label_smoothing=0.1)
        torch.testing.assert_close(got, expected)


def test_a_soft_label_counts_as_both_classes_with_its_probability(make_task):
    """Each image twice, once of each class, with the probability as its weight."""
    probability = np.random.default_rng(0).random(96)
    task = make_task(class_weights="balanced", soft_labels="probability", label_smoothing=0.0)
    train, _ = build_splits(with_columns(task, probability=probability))
    p = torch.tensor(probability[task.packed.rows("train")])
    totals = torch.stack([(1 - p).sum(), p.sum()])
    by_class = len(p) / (2 * totals)
    logits = torch.randn(len(p), 2, dtype=torch.float64)
    losses = -logits.log_softmax(dim=1)
    expected = (by_class[1] * p * losses[:, 1] + by_class[0] * (1 - p) * losses[:, 0]).mean()
    got = soft_cross_entropy(logits, train.mass, label_smoothing=0.0)
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
    assert train.weights.mean().item() == pytest.approx(1.0)


def test_a_network_learns_the_probability_it_is_told(make_task):
    task = plain(make_task, soft_labels="probability", class_weights="none", label_smoothing=0.0)
    task = with_columns(task, probability=np.full(96, 0.75))
    trainer = trainer_of(task)
    for epoch in range(4):
        trainer.train_epoch(epoch)
    images = trainer.val.images.take(torch.arange(32))
    assert trainer.model(images).softmax(dim=1)[:, 1].mean().item() == pytest.approx(0.75, abs=0.08)
    loss, accuracy, _ = trainer.validate()
    assert accuracy == pytest.approx(0.5, abs=0.2)  # against the hard labels, which it never saw
    assert loss == pytest.approx(0.5623, abs=0.05)  # the entropy of 0.75


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"probabilty": 0.5}, ConfigurationError, "is not a column.*did you mean 'probabilty'"),
        ({"probability": 1.5}, DataRefused, r"96 images have no probability.*images/0000\.png"),
        ({"probability": "much"}, DataRefused, r"no probability.*'much'"),
        ({"probability": None}, DataRefused, "no probability"),
    ],
)
def test_soft_labels_that_are_none_are_refused(make_task, columns, error, message):
    task = with_columns(make_task(soft_labels="probability"), **columns)
    with pytest.raises(error, match=message):
        build_splits(task)


def test_soft_labels_of_three_classes_are_refused(make_task):
    task = with_columns(make_task(soft_labels="probability"), probability=0.5)
    packed = dataclasses.replace(task.packed, classes=("a", "b", "c"))
    with pytest.raises(ConfigurationError, match="second of two classes, and the data has 3"):
        build_splits(dataclasses.replace(task, packed=packed))


def test_the_loss_of_a_mixed_image_is_the_sum_of_both_losses():
    logits, weights = torch.randn(6, 3), torch.rand(6)
    targets, share = torch.tensor([0, 1, 2, 0, 1, 2]), torch.rand(6)
    partners = neighbours(6, "cpu")
    mass = nn.functional.one_hot(targets, 3) * weights[:, None]
    mixed = torch.lerp(mass[partners], mass, share[:, None])
    both = cross_entropy(logits, targets, weights * share, label_smoothing=0.1) + cross_entropy(
        logits, targets[partners], weights[partners] * (1 - share), label_smoothing=0.1
    )
    torch.testing.assert_close(soft_cross_entropy(logits, mixed, label_smoothing=0.1), both)


def test_a_step_takes_the_labels_that_its_images_were_mixed_with(make_task, monkeypatch):
    trainer = trainer_of(with_policy(plain(make_task), MIXED))
    mixed = []
    mix = trainer._mixing

    def recorded(images, keys, partners, **kwargs):
        found = mix(images, keys, partners, **kwargs)
        mixed.append((*found, partners))
        return found

    monkeypatch.setattr(trainer, "_mixing", recorded)
    before = build_network(with_policy(plain(make_task), MIXED))
    batch = torch.arange(10, 20)
    loss, right = trainer.step(batch, epoch=0)
    ((images, share, partners),) = mixed
    assert 0 < (share < 1).sum() < 10
    logits = before(images)
    targets = trainer.train.images.targets[batch]
    own = nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=0.05)
    other = nn.functional.cross_entropy(
        logits, targets[partners], reduction="none", label_smoothing=0.05
    )
    torch.testing.assert_close(loss, (share * own + (1 - share) * other).mean())
    assert torch.equal(right, logits.argmax(dim=1) == targets)


# Balanced sampling


def test_balanced_sampling_shows_rare_images_anew_each_time(make_task, monkeypatch):
    task = make_task(sampling="balanced", class_weights="none", batch_size=16)
    index = task.packed.index.copy()
    index.loc[(index["target"] == 1) & (np.arange(96) >= 16), "target"] = 0
    task = dataclasses.replace(task, packed=dataclasses.replace(task.packed, index=index))
    trainer = trainer_of(task)
    seen = []
    policy = trainer.feed.policy

    def recorded(images, keys, **kwargs):
        seen.append(keys.clone())
        return policy(images, keys, **kwargs)

    monkeypatch.setattr(trainer.feed, "policy", recorded)
    batches = trainer.feed.begin(0)
    positions = torch.cat(batches) % len(trainer.train)
    classes = trainer.train.images.targets[positions]
    assert classes.bincount().tolist() == [32, 32]
    assert torch.equal(torch.cat(trainer.feed.begin(0)), torch.cat(batches))
    assert not torch.equal(torch.cat(trainer.feed.begin(1)), torch.cat(batches))
    loss, accuracy = trainer.train_epoch(0)
    assert math.isfinite(loss)
    assert 0 <= accuracy <= 1
    keys = torch.cat(seen)
    assert len(keys) == len(keys.unique()) == 64


# All at once


EVERYTHING = {
    "optimizer": "muon",
    "lr": 0.005,
    "ema": 0.9,
    "gradient_accumulation": 2,
    "batch_size": 8,
    "progressive_resizing": {"start": 16, "share": 0.5},
    "sampling": "balanced",
    "class_weights": "none",
    "soft_labels": "probability",
    "early_stopping": 3,
    "test_time_augmentation": "dihedral",
    "freeze": ["stem.*"],
    "schedule": "cosine",
}


@pytest.mark.parametrize("epochs_done", [1, 2, 3])
def test_all_of_it_together_resumes_to_the_bit(make_task, tmp_path, monkeypatch, epochs_done):
    monkeypatch.setattr("pipeline.training.fit.SAVE_EVERY", 0.0)
    task = with_policy(make_task(epochs=4, **EVERYTHING), MIXED)
    probability = 0.1 + 0.8 * task.packed.index["target"]
    task = with_columns(task, probability=probability)
    learned = {name: tensor + 0.01 for name, tensor in build_network(task).net.state_dict().items()}
    task = dataclasses.replace(task, pretrained=Pretrained("made.pth", learned))
    undisturbed = run(task, tmp_path / "undisturbed")
    with ended_after(epochs_done):
        run(task, tmp_path / "ended")
    resumed = run(task, tmp_path / "ended")
    assert_same_bits(undisturbed, resumed)
    assert resumed.network.views == "dihedral"
