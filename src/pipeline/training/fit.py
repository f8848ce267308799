"""From a task to a trained network: what is there already is taken over, the rest is trained."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.console import logger, progress
from pipeline.data.pack import Packed
from pipeline.errors import DataRefused, PipelineError
from pipeline.journal import Journal
from pipeline.params import VariantParams
from pipeline.training.autotune import Plan, choose_plan
from pipeline.training.checkpoint import (
    Checkpoint,
    CheckpointFolder,
    snapshot,
)
from pipeline.training.environment import derived_seed
from pipeline.training.loop import Epoch, Split, Trainer, best_epoch
from pipeline.training.objective import class_weights, image_weights
from pipeline.training.system import system_metrics
from pipeline.vision import models
from pipeline.vision.augmentation import Policy
from pipeline.vision.batches import Images
from pipeline.vision.models import Classifier

CPU_PROBE = 32
"""Images in a measured step on a CPU: enough to tell, in half the time of a usual batch."""

SAVE_EVERY = 10.0
"""Seconds: an epoch is saved that ends so long after the last that was. Of a network with millions
of weights, saving each quick epoch would take longer than repeating a few."""


@dataclass(frozen=True)
class Task:
    """What is to be trained, and on what."""

    variant: str
    settings: VariantParams
    policy: Policy
    packed: Packed
    device: torch.device


@dataclass(frozen=True)
class Fitted:
    """``network`` has the weights of its best epoch."""

    network: Classifier
    plan: Plan
    history: list[Epoch]


def fit(task: Task, folder: CheckpointFolder, *, plans: Path) -> Fitted:
    """Train the epochs that the checkpoint in ``folder`` does not hold yet.

    Call it inside `reproducible`. What is journaled but not saved is trained again, to the same
    bits, and not journaled again.

    Args:
        plans: the folder of measured plans, see `choose_plan`.

    Raises:
        DataRefused: a split has too few images to train or to validate on.
        PipelineError: the training diverged, or a batch does not fit into the GPU's memory.
    """
    try:
        return _fit(task, folder, plans)
    except torch.OutOfMemoryError as error:
        batch, size = task.settings.batch_size, task.settings.image_size
        raise PipelineError(
            f"variants.{task.variant}: {batch} images of {size}×{size} do not fit into the memory"
            f" of {task.device}; set batch_size: {max(2, batch // 2)} (and halve lr with it), or a"
            " smaller image_size"
        ) from error


def _fit(task: Task, folder: CheckpointFolder, plans: Path) -> Fitted:
    checkpoint = folder.load()
    network = build_network(task)
    train, val = build_splits(task)

    def build_trainer(model: Classifier, plan: Plan) -> Trainer:
        return Trainer(model, task.settings, plan, task.policy, train=train, val=val)

    history, best = list[Epoch](), snapshot(network)
    if checkpoint is None:
        plan = _choose_plan(task, network, build_trainer, plans)
    else:
        plan = Plan(**checkpoint.state["plan"])
    torch.set_num_threads(plan.threads)
    trainer = build_trainer(network, plan)
    if checkpoint is not None:
        history, best = _restore(trainer, checkpoint)
        logger.info(
            "%s: %d of its %d epochs were trained before (%s)",
            *(task.variant, len(history), task.settings.epochs, folder.path),
        )
    saved = time.monotonic()
    for epoch in _epochs(trainer, task.variant, len(history), Journal(folder.journal)):
        history.append(epoch)
        if best_epoch(history) is epoch:
            best = snapshot(network)
        finished = len(history) == task.settings.epochs
        if finished or time.monotonic() - saved >= SAVE_EVERY:
            folder.save(_checkpoint(trainer, history, best), keep=1 if finished else 2)
            saved = time.monotonic()
    network.load_state_dict(best)
    return Fitted(network, plan, history)


def training_code(model: str) -> list[Path]:
    """The files of code that shape a training's result. Another network's file is none of them."""
    training, package = Path(__file__).parent, Path(__file__).parent.parent
    vision = package / "vision"
    later = {vision / name for name in ("card.py", "inference.py", "preview.py")}
    return [
        *sorted(training.glob("*.py")),
        *sorted(set(vision.glob("*.py")) - later),
        package / "data" / "pack.py",
        package / "data" / "pixels.py",
        *(vision / "models" / name for name in ("__init__.py", "classifier.py")),
        models.module_file(model),
    ]


def build_network(task: Task) -> Classifier:
    """The untrained network; its weights follow from the seed and the variant's name."""
    torch.manual_seed(derived_seed("weights", task.settings.seed, task.variant))
    return models.build(
        task.settings.model,
        channels=task.packed.channels,
        num_classes=len(task.packed.classes),
        image_size=task.settings.image_size,
        architecture=task.settings.architecture,
        mean=task.packed.mean,
        std=task.packed.std,
        where=f"variants.{task.variant}",
    )


def build_splits(task: Task) -> tuple[Split, Split]:
    """The train and val images on the device. Classes weigh in both as the train split asks.

    Raises:
        DataRefused: a split has too few images, or none with a weight.
    """
    packed, settings = task.packed, task.settings
    by_class = torch.ones(len(packed.classes), device=task.device)
    splits = []
    for name in ("train", "val"):
        rows = packed.rows(name)
        if len(rows) < 2:
            raise DataRefused(
                f"the split '{name}' has {len(rows)} images, a training needs 2 at least; see"
                " split.ratios in params.yaml, or the column 'split' of data/metadata.csv"
            )
        images = Images(packed, rows, device=task.device, image_size=settings.image_size)
        samples = images.weights if settings.use_sample_weights else torch.ones_like(images.weights)
        if name == "train" and settings.class_weights == "balanced":
            by_class = class_weights(images.targets, samples, num_classes=len(packed.classes))
        weights = image_weights(images.targets, samples, by_class)
        splits.append(Split(images, weights, packed.index["file_name"].iloc[rows].tolist()))
    train, val = splits
    return train, val


def _choose_plan(
    task: Task,
    network: Classifier,
    build_trainer: Callable[[Classifier, Plan], Trainer],
    folder: Path,
) -> Plan:
    settings, packed = task.settings, task.packed

    def make_step(plan: Plan) -> Callable[[], object]:
        scratch = build_trainer(copy.deepcopy(network), plan)
        images = min(settings.batch_size, len(scratch.train))
        if task.device.type == "cpu":
            images = min(images, CPU_PROBE)
        batch = torch.arange(images, device=task.device)
        return lambda: scratch.step(batch, epoch=0)

    return choose_plan(
        make_step,
        precision=settings.precision,
        device=task.device,
        steps=settings.epochs * -(-len(packed.rows("train")) // settings.batch_size),
        case={
            "model": settings.model,
            "architecture": settings.architecture,
            "image_size": settings.image_size,
            "channels": packed.channels,
            "classes": len(packed.classes),
            "batch_size": settings.batch_size,
        },
        folder=folder,
    )


def _epochs(trainer: Trainer, variant: str, start: int, journal: Journal) -> Iterator[Epoch]:
    """Train and journal the epochs from number ``start``, counted from 0, to the last."""
    images, epochs, note = len(trainer.train), trainer.settings.epochs, ""
    if start == epochs:
        return
    system_metrics(trainer.device)  # the load of the processors is counted from here
    with progress(f"training {variant}", images * (epochs - start)) as bar:
        for number in range(start, epochs):
            began = time.perf_counter()
            train_loss, train_accuracy = trainer.train_epoch(
                number,
                advance=lambda count, note=note: bar.advance(count, note),  # type: ignore[misc]
            )
            speed = images / (time.perf_counter() - began)
            epoch = Epoch(
                number + 1,
                trainer.lr((number + 1) * trainer.steps_per_epoch - 1),
                *(train_loss, train_accuracy),
                *trainer.validate(),
            )
            measured = asdict(epoch) | {"images_per_second": speed}
            del measured["epoch"]
            journal.append(epoch.epoch, measured | system_metrics(trainer.device))
            note = f"epoch {epoch.epoch}: validation {100 * epoch.val_balanced_accuracy:.1f} %"
            yield epoch


def _checkpoint(trainer: Trainer, history: list[Epoch], best: Mapping[str, Tensor]) -> Checkpoint:
    """What `_restore` needs; of a finished training that is the best weights alone."""
    parts: dict[str, Mapping[str, Tensor]] = {"best": best}
    if len(history) < trainer.settings.epochs:
        parts["optimizer"] = trainer.optimizer.state()
        if best_epoch(history) is not history[-1]:
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
    parts: dict[str, dict[str, Tensor]] = {"best": {}, "model": {}, "optimizer": {}}
    for key, tensor in checkpoint.tensors.items():
        part, _, name = key.partition("/")
        parts[part][name] = tensor
    trainer.model.load_state_dict(parts["model"] or parts["best"])
    if parts["optimizer"]:  # a finished training has kept none
        trainer.optimizer.restore(parts["optimizer"])
    return [Epoch(**epoch) for epoch in checkpoint.state["history"]], parts["best"]
