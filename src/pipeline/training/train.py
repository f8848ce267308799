"""``python -m pipeline train VARIANT``: from packed images to ``artifacts/models/VARIANT``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from pipeline.artifacts import sha256_file
from pipeline.console import logger
from pipeline.data.pack import Packed
from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.training.checkpoint import hold, prune, training_key
from pipeline.training.environment import ending_cleanly, reproducible, resolve_device
from pipeline.training.fit import Fitted, Task, fit
from pipeline.training.loop import Epoch, best_epoch
from pipeline.vision import models
from pipeline.vision.augmentation import build_policy
from pipeline.vision.card import WEIGHTS, ModelCard, save_model
from pipeline.workspace import Workspace


def train(workspace: Workspace, params: Params, variant: str) -> None:
    """Train ``variant`` and write its model folder, going on from its checkpoint if there is one.

    The model is the network as it was after its best epoch, see `best_epoch`.

    Raises:
        ConfigurationError: there is no such variant, network, augmentation or device.
        DataRefused: a split has too few images to train or to validate on.
        Busy: another process is training the same.
        PipelineError: the training diverged, or a batch does not fit into the GPU's memory.
    """
    from pipeline.tracking import mirror

    settings = params.variant(variant)
    models.check_model(settings.model, where=f"variants.{variant}.model")
    task = Task(
        variant,
        settings,
        policy=build_policy(params.augment.policy),
        device=resolve_device(settings.device),
        packed=Packed.load(workspace.packed),
    )
    described = {**settings.model_dump(mode="json"), "policy": params.augment.policy}
    key = training_key(
        variant, described, data_digest=task.packed.digest, code=_code(settings.model)
    )
    output = workspace.model(variant)
    with (
        ending_cleanly(),
        hold(workspace.checkpoints / key) as folder,
        mirror(
            workspace,
            folder.journal,
            run_name=variant,
            training_key=key,
            params=described,
            tags={"variant": variant, "data_digest": task.packed.digest},
        ) as run,
    ):
        prune(workspace.checkpoints)
        with reproducible(task.device), _memory_explained(task):
            fitted = fit(task, folder, plans=workspace.state / "plans")
        save_model(output, fitted.network, _card(task, fitted, key), _rows(fitted.history))
        run.finish(sha256_file(output / WEIGHTS))
    best = best_epoch(fitted.history)
    logger.info(
        "%s: kept epoch %d of %d, balanced accuracy %.1f %% on the validation images;"
        " wrote %s, model.json and history.csv to %s",
        *(variant, best.epoch, len(fitted.history), 100 * best.val_balanced_accuracy),
        *(WEIGHTS, output.relative_to(workspace.root)),
    )


def _code(model: str) -> list[Path]:
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


def _card(task: Task, fitted: Fitted, key: str) -> ModelCard:
    packed, settings = task.packed, task.settings
    return ModelCard(
        variant=task.variant,
        model=settings.model,
        architecture=settings.architecture,
        classes=packed.classes,
        channels=packed.channels,
        image_size=settings.image_size,
        stored_size=packed.image_size,
        mean=packed.mean,
        std=packed.std,
        data_digest=packed.digest,
        training_key=key,
        seed=settings.seed,
        parameters=fitted.network.num_parameters,
        plan=asdict(fitted.plan),
    )


def _rows(history: list[Epoch]) -> list[dict[str, float]]:
    """For ``history.csv``: six digits are more than a curve shows."""
    return [
        {name: float(f"{value:.6g}") if name != "epoch" else value for name, value in row.items()}
        for row in map(asdict, history)
    ]


@contextlib.contextmanager
def _memory_explained(task: Task) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        batch, size = task.settings.batch_size, task.settings.image_size
        raise PipelineError(
            f"variants.{task.variant}: {batch} images of {size}×{size} do not fit into the memory"
            f" of {task.device}; set batch_size: {max(2, batch // 2)} (and halve lr with it), or a"
            " smaller image_size"
        ) from error
