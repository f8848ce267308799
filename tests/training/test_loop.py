"""One epoch: every image once, the right weights updated, nothing non-finite let through."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.errors import DataRefused, PipelineError
from pipeline.training.checkpoint import snapshot
from pipeline.training.distributed import Ranks
from pipeline.training.feed import Feed
from pipeline.training.history import Epoch, best_epoch
from pipeline.training.profile import NoProfile
from pipeline.training.task import build_splits
from pipeline.vision.batches import Images
from tests.copies import CopiesToHost
from tests.training.conftest import trainer_of


def test_every_image_is_taken_once_an_epoch_in_an_order_of_its_own(make_trainer, monkeypatch):
    trainer = make_trainer()
    orders: list[list[int]] = []
    step = trainer.step

    def recorded(batch, epoch):
        orders[-1] += batch.tolist()
        return step(batch, epoch)

    monkeypatch.setattr(trainer, "step", recorded)
    advanced: list[int] = []
    for epoch in (0, 1):
        orders.append([])
        trainer.train_epoch(epoch, advance=advanced.append)
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(64))
    assert orders[0] != orders[1]
    assert sum(advanced) == 128


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_size": 21},
        {"gradient_accumulation": 2},
        {"sampling": "balanced", "class_weights": "none"},
    ],
)
def test_batches_that_are_prepared_together_are_those_prepared_alone(
    make_trainer, monkeypatch, settings
):
    def trained(ahead: int) -> tuple[list[tuple[float, float]], dict[str, torch.Tensor], int]:
        monkeypatch.setattr("pipeline.training.feed.AHEAD", ahead)
        trainer = make_trainer(**settings)
        policy, calls = trainer.feed.policy, list[int]()

        def counted(pixels, keys, **kwargs):
            calls.append(len(pixels))
            return policy(pixels, keys, **kwargs)

        trainer.feed.policy = counted
        results = [trainer.train_epoch(epoch) for epoch in (0, 1)]
        assert sum(calls) in (2 * 63, 2 * 64)
        return results, snapshot(trainer.model), len(calls)

    together, alone = trained(2**20), trained(0)
    assert together[0] == alone[0]
    assert all(torch.equal(tensor, alone[1][name]) for name, tensor in together[1].items())
    assert together[2] == 2 < alone[2]


@pytest.mark.parametrize("sampling", ["shuffle", "balanced"])
def test_images_on_the_host_are_prepared_for_a_gpu_without_waiting_for_it(
    make_task, monkeypatch, sampling
):
    task = make_task(sampling=sampling, class_weights="none")
    trainer = trainer_of(task)
    monkeypatch.setattr(
        "pipeline.vision.batches._room", lambda place: 1e9 if place.type == "cpu" else 0.0
    )
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    with FakeTensorMode(allow_non_fake_inputs=True):  # a GPU that is only pretended
        images = Images(task.packed, task.packed.rows("train"), device="cuda:0", image_size=32)
        train = dataclasses.replace(trainer.train, images=images)
        feed = Feed(train, trainer.feed.policy, task.settings, trainer.ranks)
        with CopiesToHost() as copies:
            prepared = feed.take(feed.begin(0)[0], 0, NoProfile())
    assert {tensor.device for tensor in prepared} == {torch.device("cuda", 0)}
    assert copies.awaited == []


@pytest.mark.parametrize(("batch_size", "steps"), [(64, 1), (21, 3), (62, 2), (63, 1)])
def test_a_last_batch_is_used_unless_it_is_a_single_image(make_trainer, batch_size, steps):
    trainer = make_trainer(batch_size=batch_size)
    assert trainer.steps_per_epoch == steps
    loss, accuracy = trainer.train_epoch(0)
    assert math.isfinite(loss)
    assert 0 <= accuracy <= 1


def test_validation_changes_nothing(make_trainer):
    trainer = make_trainer()
    before = snapshot(trainer.model)
    first = trainer.validate()
    assert trainer.validate() == first
    assert all(torch.equal(before[name], value) for name, value in snapshot(trainer.model).items())


class Idle(Ranks):
    """A process to which no validation image falls."""

    def part(self, batch):
        return batch[:0]

    def gather(self, rows, count):
        assert len(rows) == 0
        return rows.new_zeros((count, *rows.shape[1:]))  # as the others' are added to


def test_a_process_without_validation_images_asks_no_network(make_task):
    trainer = trainer_of(make_task(), ranks=Idle(torch.device("cpu")))
    trainer.model.register_forward_pre_hook(lambda *_: pytest.fail("was given no image"))
    loss, _, _ = trainer.validate()
    assert loss == pytest.approx(math.log(2))


def test_learning_rate_spans_all_epochs(make_trainer):
    trainer = make_trainer(schedule="constant", warmup=0.0, epochs=3, lr=0.25)
    assert [trainer.lr(step) for step in range(12)] == [0.25] * 12
    trainer = make_trainer(schedule="cosine", warmup=0.0, epochs=3, lr=0.25)
    assert trainer.lr(0) == 0.25
    assert trainer.lr(11) < 0.01


@pytest.mark.parametrize("bad_step", [0, 2])
def test_a_loss_that_is_not_finite_stops_and_names_the_images_of_its_step(
    make_trainer, monkeypatch, bad_step
):
    monkeypatch.setattr("pipeline.training.feed.AHEAD", 0)  # the policy has a call for each step
    trainer = make_trainer()
    taken: list[list[int]] = []
    policy, step = trainer.feed.policy, trainer.step

    def recorded(batch, epoch):
        taken.append(batch.tolist())
        return step(batch, epoch)

    def broken(images, keys, *, seed, epoch):
        images = policy(images, keys, seed=seed, epoch=epoch)
        return images * math.nan if len(taken) == bad_step + 1 else images

    monkeypatch.setattr(trainer, "step", recorded)
    monkeypatch.setattr(trainer.feed, "policy", broken)
    with pytest.raises(PipelineError, match=f"epoch 1, step {bad_step + 1}: ") as stopped:
        trainer.train_epoch(0)
    for i in taken[bad_step]:
        assert trainer.train.file_names[i] in str(stopped.value)
    for i in set(range(64)) - set(taken[bad_step]):
        assert trainer.train.file_names[i] not in str(stopped.value)
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())


def test_weights_of_a_split_are_one_on_average_and_balance_the_classes(make_task, workspace):
    task = make_task(class_weights="balanced")
    index = task.packed.index.copy()
    index["weight"] = index["target"].map({0: 1.0, 1: 0.25}).astype("float32")
    task = dataclasses.replace(task, packed=dataclasses.replace(task.packed, index=index))
    for split in build_splits(task):
        says = [split.weights[split.images.targets == target].sum() for target in (0, 1)]
        assert says[0] == pytest.approx(says[1])
        assert split.weights.mean() == pytest.approx(1.0)


def test_a_split_without_images_is_refused(make_task):
    task = make_task()
    index = task.packed.index.assign(split="train")
    task = dataclasses.replace(task, packed=dataclasses.replace(task.packed, index=index))
    with pytest.raises(DataRefused, match="'val' has 0 images"):
        build_splits(task)


def test_the_best_epoch_is_the_latest_of_the_best():
    def epoch(number: int, balanced: float, loss: float) -> Epoch:
        return Epoch(number, 0.1, 1.0, 0.5, loss, 0.5, balanced)

    history = [epoch(1, 0.7, 0.5), epoch(2, 0.9, 0.6), epoch(3, 0.9, 0.4), epoch(4, 0.8, 0.1)]
    assert best_epoch(history).epoch == 3
    assert best_epoch([*history, epoch(5, 0.9, 0.4)]).epoch == 5
