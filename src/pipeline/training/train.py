"""``python -m pipeline train VARIANT``: from packed images to ``artifacts/models/VARIANT``."""

from __future__ import annotations

from dataclasses import asdict

from pipeline.artifacts import sha256_file
from pipeline.console import logger
from pipeline.data.pack import Packed
from pipeline.params import Params
from pipeline.training.checkpoint import hold, prune, training_key
from pipeline.training.environment import ending_cleanly, reproducible, resolve_device
from pipeline.training.fit import Fitted, Task, fit, training_code
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
        variant, described, data_digest=task.packed.digest, code=training_code(settings.model)
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
        with reproducible(task.device):
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
