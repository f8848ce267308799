"""The plan of a training: what its settings ask for, and for the rest what real steps show."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.console import logger
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.training.autotune import Asked, choose_plan
from pipeline.training.distributed import Ranks
from pipeline.training.environment import release_memory
from pipeline.training.execution import EXECUTIONS, disagreement, obstacle
from pipeline.training.loop import Trainer
from pipeline.training.objective import cross_entropy
from pipeline.training.plan import Execution, Plan
from pipeline.training.race import Step, Unusable
from pipeline.training.task import Task
from pipeline.vision.models import Classifier
from pipeline.vision.models.classifier import Outputs
from pipeline.vision.models.outputs import auxiliaries_in, logits_in

CPU_IMAGES = (8, 32)
"""Fewest and most in a measured step on a CPU: with fewer than a batch has, there are more steps
to measure within the same time."""
STEPS = 1000
"""Measured steps that a training should be long, for enough of them to be made."""


def plan_for(
    task: Task,
    network: Classifier,
    build_trainer: Callable[[Classifier, Plan, int], Trainer],
    *,
    folder: Path,
    ranks: Ranks,
) -> Plan:
    """The plan by which all ``ranks`` train; the first one measures, a batch of each one's size.

    Args:
        network: as its training begins; it stays as it is.
        build_trainer: for a scratch copy of it, a plan and the images of a full batch.
        folder: of what was measured, see `choose_plan`.

    Raises:
        ConfigurationError: the settings ask for an execution that is not possible here, or does
            not give what plain passes do.
    """
    if not ranks.first:
        return Plan(**json.loads(ranks.from_first(b"")))
    settings, images = task.settings, _images(task, ranks)
    obstacles = {execution: _obstacle(task, execution, ranks) for execution in EXECUTIONS}
    if settings.execution != "auto" and (reason := obstacles[settings.execution]):
        raise _impossible(task, reason)

    def make_scratch(plan: Plan) -> tuple[Trainer, Tensor]:
        scratch = build_trainer(copy.deepcopy(network), plan, images)
        return scratch, torch.arange(images, device=scratch.train.images.index_device)

    def make_step(plan: Plan) -> Step:
        scratch, batch = make_scratch(plan)
        if settings.execution == "auto" and plan.execution != "eager":
            _check(scratch, batch)
            release_memory(task.device)
        return lambda: scratch.step(batch, epoch=0)

    plan = choose_plan(
        make_step,
        Asked(settings.precision, settings.memory_format, settings.execution),
        device=task.device,
        steps=settings.epochs * -(-len(task.packed.rows("train")) // images),
        executions=[execution for execution, reason in obstacles.items() if reason is None],
        case=_case(task, ranks),
        folder=folder,
    )
    if settings.execution not in ("auto", "eager"):
        _check_asked(task, *make_scratch(plan))
    release_memory(task.device)
    ranks.from_first(json.dumps(asdict(plan)).encode())
    return plan


def plan_to_go_on(task: Task, plan: Plan, ranks: Ranks) -> Plan:
    """The ``plan`` of a checkpoint; with plain passes where its execution is not possible here.

    Raises:
        ConfigurationError: it is not, and the settings ask for it.
    """
    reason = _obstacle(task, plan.execution, ranks)
    if reason is None:
        return plan
    if task.settings.execution != "auto":
        raise _impossible(task, reason)
    logger.warning(
        "%s: its earlier epochs were trained with execution: %s, which %s; it goes on with eager",
        *(task.variant, plan.execution, reason),
    )
    return replace(plan, execution="eager")


def _obstacle(task: Task, execution: Execution, ranks: Ranks) -> str | None:
    accumulation = task.settings.gradient_accumulation
    return obstacle(execution, task.device, processes=ranks.size, accumulation=accumulation)


def _impossible(task: Task, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"params.yaml: {task.where}.execution: {task.settings.execution} {reason}; set it to auto"
        " or eager, which begins the training anew"
    )


def _case(task: Task, ranks: Ranks) -> dict[str, Any]:
    """What the speed of a step follows from, beside its plan."""
    settings, packed = task.settings, task.packed
    return {
        "model": settings.model,
        "architecture": settings.architecture,
        "image_size": settings.image_size,
        "channels": packed.channels,
        "classes": len(packed.classes),
        "images": _batch(task, ranks),
        "optimizer": settings.optimizer,
    }


def _batch(task: Task, ranks: Ranks) -> int:
    """How many images a pass of one process has."""
    return min(-(-task.settings.batch_size // ranks.size), len(task.packed.rows("train")))


def _images(task: Task, ranks: Ranks) -> int:
    """How many a measured step has: in a short training fewer, which are not to be measured anew
    by the next one."""
    settings, available = task.settings, len(task.packed.rows("train"))
    batch = _batch(task, ranks)
    if task.device.type != "cpu":
        return batch
    fewest, most = CPU_IMAGES
    return min(batch, most, max(fewest, settings.epochs * available // STEPS))


def _check_asked(task: Task, scratch: Trainer, batch: Tensor) -> None:
    """As `_check`, of an execution that the settings ask for.

    Raises:
        ConfigurationError: in place of `Unusable`.
    """
    try:
        _check(scratch, batch)
    except Unusable as reason:
        if isinstance(reason.__cause__, PipelineError):
            raise reason.__cause__ from None  # which says all of it
        raise ConfigurationError(
            f"params.yaml: {task.where}.execution: {task.settings.execution} cannot be used for"
            f" this network ({reason}); set it to auto or eager"
        ) from reason


def _check(scratch: Trainer, batch: Tensor) -> None:
    """Compare the passes of the scratch trainer's plan with plain ones.

    Raises:
        Unusable: they differ, or cannot be made.
        OutOfMemoryError: they do not fit.
    """
    images, weights = scratch.train.images, scratch.train.weights[batch]
    targets = images.targets[batch]

    def loss(outputs: Outputs) -> Tensor:
        first = logits_in(outputs)
        if first.ndim != 2:  # drawings of the images, which no label belongs to
            return first.float().square().mean()
        main = cross_entropy(first, targets, weights, label_smoothing=0.0)
        # Whatever the network makes of the rest, its gradient comes by way of each of them.
        rest = (other.float().square().mean() for other in auxiliaries_in(outputs))
        return sum(rest, start=main)

    try:
        different = disagreement(scratch.model, scratch.plan, images.take(batch), loss)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        # Whatever a compiler or a graph's capture runs into, plain passes remain.
        reason = str(error).strip().partition("\n")[0]
        raise Unusable(f"{type(error).__name__}: {reason}") from error
    if different is not None:
        raise Unusable(different)
