"""Real training beside its compute ceiling: the same steps on batches that lie there ready.

The ceiling has no random order, no gathering of images, no augmentation, no metrics and no journal;
network, loss, gradients and update are the same, by the same plan.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.loops.case import Case
from benchmarks.loops.recipe import recipe
from benchmarks.results import SPEED, Row, beside
from benchmarks.train_peers import CASES
from pipeline.journal import Journal
from pipeline.training.environment import reproducible, resolve_device
from pipeline.training.execution import logits_of
from pipeline.training.loop import Trainer
from pipeline.training.objective import cross_entropy
from pipeline.training.optimizer import guarded_step
from pipeline.training.plan import Plan
from pipeline.training.profile import Profile
from pipeline.training.task import build_network, build_splits

PRECISION = "bfloat16"


def rows(repeats: int = 5, images: int | None = None) -> list[dict[str, Any]]:
    """A row for each case and each part of its step; ``images`` makes the cases smaller."""
    table = []
    for name, case in CASES.items():
        table += _case(name, replace(case, images=min(images or case.images, case.images)), repeats)
    return [asdict(row) for row in table]


def _case(name: str, case: Case, repeats: int) -> list[Row]:
    task = recipe(replace(case, device=str(resolve_device("auto"))))
    with reproducible(task.device), tempfile.TemporaryDirectory() as folder:
        plan = Plan(PRECISION, torch.get_num_threads())
        train, val = build_splits(task)
        trainer = Trainer(
            build_network(task), task.settings, plan, task.policy, train=train, val=val
        )
        ready = _ready(trainer)
        journal = Journal(Path(folder) / "journal.jsonl")
        ours, ceiling = list[float](), list[float]()
        _ceiling_epoch(trainer, ready)  # warm
        for repeat in range(repeats):
            for runs in (ours, ceiling) if repeat % 2 else (ceiling, ours):
                start = time.perf_counter()
                if runs is ours:
                    loss, accuracy = trainer.train_epoch(repeat)
                    journal.append(repeat + 1, {"loss": loss, "accuracy": accuracy})
                else:
                    _ceiling_epoch(trainer, ready)
                runs.append(case.images / (time.perf_counter() - start))
        trainer.profile = Profile(task.device)
        trainer.train_epoch(repeats)
    parts = trainer.profile.seconds()
    table = [beside(name, *SPEED, ours, ceiling, "the same steps on ready batches")]
    for part, seconds in parts.items():
        milliseconds = round(1000 * seconds / trainer.steps_per_epoch, 4)
        table.append(Row(name, f"of a step: {part}", "ms", milliseconds))
    return table


def _ready(trainer: Trainer) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """An epoch's batches as the network takes them, with targets and weights."""
    positions = torch.arange(len(trainer.train), device=trainer.device)
    images = trainer.train.images
    return [
        (images.take(batch), images.targets[batch], trainer.train.weights[batch])
        for batch in torch.split(positions, trainer.settings.batch_size)
    ]


def _ceiling_epoch(
    trainer: Trainer, ready: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
) -> None:
    trainer.model.train()
    for pixels, targets, weights in ready:
        trainer.optimizer.zero_grad()
        logits = logits_of(trainer.model, trainer.plan, pixels)
        loss = cross_entropy(
            logits, targets, weights, label_smoothing=trainer.settings.label_smoothing
        )
        loss.backward()  # type: ignore[no-untyped-call]
        loss = guarded_step(trainer.optimizer, loss, max_norm=trainer.settings.gradient_clip)
    loss.item()  # the device is done
