"""From a task to a trained network: what is there already is taken over, the rest is trained."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.console import logger, progress
from pipeline.journal import Journal
from pipeline.params import TrainParams, VariantParams
from pipeline.training.checkpoint import (
    Checkpoint,
    CheckpointFolder,
    snapshot,
)
from pipeline.training.distributed import ALONE, Ranks
from pipeline.training.history import Epoch, best_epoch, finished
from pipeline.training.loop import Trainer
from pipeline.training.memory import too_large
from pipeline.training.plan import Plan
from pipeline.training.probe import plan_for, plan_to_go_on
from pipeline.training.profile import Profile, profile_table
from pipeline.training.system import system_metrics
from pipeline.training.task import Task, build_splits
from pipeline.vision import models
from pipeline.vision.models import Classifier

MODEL_CODE = ("__init__.py", "classifier.py", "layers.py", "outputs.py", "pretrained.py")

SAVE_EVERY = 10.0
"""Seconds: an epoch is saved that ends so long after the last that was. Of a network with millions
of weights, saving each quick epoch would take longer than repeating a few."""


@dataclass(frozen=True)
class Fitted:
    """``network`` has the weights of its best epoch."""

    network: Classifier
    plan: Plan
    history: list[Epoch]


def fit(
    task: Task, folder: CheckpointFolder | None, *, plans: Path, ranks: Ranks = ALONE
) -> Fitted:
    """Train the epochs that the checkpoint in ``folder`` does not hold yet.

    Call it inside `reproducible`. What is journaled but not saved is trained again, to the same
    bits, and not journaled again.

    Args:
        folder: None in a process that is not the first of ``ranks``.
        plans: the folder of measured plans, see `choose_plan`.
        ranks: the processes that train it together, each of which calls this.

    Raises:
        ConfigurationError: the network cannot be built, or not trained here, as ``task`` says.
        DataRefused: a split has too few images to train or to validate on.
        PipelineError: the training diverged, or a batch does not fit into the GPU's memory.
    """
    with contextlib.suppress(torch.OutOfMemoryError):
        return _fit(task, folder, plans, ranks)
    raise too_large(task, ranks.size)


def _fit(task: Task, folder: CheckpointFolder | None, plans: Path, ranks: Ranks) -> Fitted:
    checkpoint = _load(folder, ranks)
    network = task.network()
    train, val = build_splits(task)

    def scratch_trainer(model: Classifier, plan: Plan, batch_size: int) -> Trainer:
        settings = task.settings.model_copy(update={"batch_size": batch_size})
        return task.trainer(model, settings, plan, task.policy, train=train, val=val)

    history, best = list[Epoch](), snapshot(network)
    if checkpoint is None:
        plan = plan_for(task, network, scratch_trainer, folder=plans, ranks=ranks)
    else:
        plan = Plan(**checkpoint.state["plan"])
        if not _ended(task.settings, _history(checkpoint)):
            plan = plan_to_go_on(task, plan, ranks)
    torch.set_num_threads(plan.threads)
    trainer = task.trainer(
        network, task.settings, plan, task.policy, train=train, val=val, ranks=ranks
    )
    if checkpoint is not None:
        history, best = _restore(trainer, checkpoint)
        logger.info(
            "%s: %d of its %d epochs were trained before (%s)",
            *(task.variant, len(history), task.settings.epochs, folder and folder.path),
        )
    if task.settings.profile:
        trainer.profile = Profile(task.device)
    for model in trainer.models:
        ranks.align(model)
    saved, trained = time.monotonic(), len(history)
    journal = Journal(folder.journal) if folder else None
    for epoch in _epochs(trainer, task.variant, history, journal):
        if best_epoch(history) is epoch:
            best = snapshot(trainer.result)
        ended = _ended(trainer.settings, history)
        if folder and (ended or time.monotonic() - saved >= SAVE_EVERY):
            folder.save(_checkpoint(trainer, history, best), keep=1 if ended else 2)
            saved = time.monotonic()
    _log_profile(trainer, task.variant, len(history) - trained)
    network.load_state_dict(best)
    return Fitted(network, plan, history)


def _log_profile(trainer: Trainer, variant: str, epochs: int) -> None:
    """Where the time of the ``epochs`` that were trained now went, if that was asked for."""
    if not isinstance(trainer.profile, Profile):
        return
    if not epochs:
        logger.info("%s: was trained before, so there is no step to profile", variant)
        return
    table = profile_table(
        trainer.profile.seconds(),
        steps=epochs * trainer.steps_per_epoch,
        images=epochs * len(trainer.train),
    )
    logger.info("%s: where the time of a training step went\n%s", variant, table)


def _load(folder: CheckpointFolder | None, ranks: Ranks) -> Checkpoint | None:
    """The first process's newest checkpoint, in all of them: they may lie on several machines."""
    found = folder.load() if folder else None
    if ranks.size == 1:
        return found
    content = ranks.from_first(found.to_bytes() if found else b"")
    return Checkpoint.from_bytes(content) if content else None


def training_code(settings: VariantParams) -> list[Path]:
    """The files of code that shape a training's result. Another network's are none of them."""
    training, package = Path(__file__).parent, Path(__file__).parent.parent
    vision = package / "vision"
    names = ("card.py", "inference.py", "preview.py", "views.py")
    later = {vision / name for name in names}
    common = [
        *sorted(training.glob("*.py")),
        *sorted(set(vision.glob("*.py")) - later),
        package / "data" / "pack.py",
        package / "data" / "pixels.py",
        *(vision / "models" / name for name in MODEL_CODE),
    ]
    own = models.code_files(settings.model, settings.architecture)
    return [*common, *(file for file in own if file not in common)]


def _ended(settings: TrainParams, history: list[Epoch]) -> bool:
    return finished(history, epochs=settings.epochs, patience=settings.early_stopping)


def _epochs(
    trainer: Trainer, variant: str, history: list[Epoch], journal: Journal | None
) -> Iterator[Epoch]:
    """Train, journal and add to ``history`` the epochs that are missing there."""
    images, epochs, note = len(trainer.train), trainer.settings.epochs, ""
    if _ended(trainer.settings, history):
        return
    system_metrics(trainer.device)  # the load of the processors is counted from here
    with progress(f"training {variant}", images * (epochs - len(history))) as bar:
        while not _ended(trainer.settings, history):
            number = len(history)
            began = time.perf_counter()
            train_loss, train_accuracy = trainer.train_epoch(
                number,
                advance=lambda count, note=note: bar.advance(count, note),  # type: ignore[misc]
            )
            speed = images / (time.perf_counter() - began)
            epoch = trainer.summary(number, train_loss, train_accuracy)
            measured = epoch.row() | {"images_per_second": speed}
            del measured["epoch"]
            if journal:
                journal.append(epoch.epoch, measured | system_metrics(trainer.device))
            note = str(epoch)
            history.append(epoch)
            yield epoch
    if len(history) < epochs:
        logger.info(
            "%s: ended after epoch %d of %d, as %d epochs brought no better validation",
            *(variant, len(history), epochs, trainer.settings.early_stopping),
        )


def _checkpoint(trainer: Trainer, history: list[Epoch], best: Mapping[str, Tensor]) -> Checkpoint:
    """What `_restore` needs; of a finished training that is the best weights alone."""
    parts: dict[str, Mapping[str, Tensor]] = {"best": best}
    if not _ended(trainer.settings, history):
        parts["optimizer"] = trainer.optimizer.state()
        if best_epoch(history) is not history[-1]:
            parts["result"] = snapshot(trainer.result)
        if trainer.result is not trainer.model:
            parts["model"] = snapshot(trainer.model)
    return Checkpoint(
        epoch=len(history),
        tensors={f"{part}/{name}": t for part, named in parts.items() for name, t in named.items()},
        state={
            "history": [asdict(epoch) for epoch in history],
            "plan": asdict(trainer.plan),
        },
    )


def _restore(trainer: Trainer, checkpoint: Checkpoint) -> tuple[list[Epoch], dict[str, Tensor]]:
    """Bring ``trainer`` to where it was; returns its epochs and the weights of the best."""
    parts = defaultdict[str, dict[str, Tensor]](dict)
    for key, tensor in checkpoint.tensors.items():
        part, _, name = key.partition("/")
        parts[part][name] = tensor
    trainer.result.load_state_dict(parts["result"] or parts["best"])
    if parts["model"]:
        trainer.model.load_state_dict(parts["model"])
    if parts["optimizer"]:  # a finished training has kept none
        trainer.optimizer.restore(parts["optimizer"])
    return _history(checkpoint), parts["best"]


def _history(checkpoint: Checkpoint) -> list[Epoch]:
    return [Epoch(**epoch) for epoch in checkpoint.state["history"]]
