"""``python -m pipeline train VARIANT``: from packed images to ``artifacts/models/VARIANT``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline.artifacts import sha256_file
from pipeline.console import logger
from pipeline.data.pack import Packed
from pipeline.params import Params
from pipeline.training.checkpoint import hold, prune, training_key
from pipeline.training.distributed import Ranks
from pipeline.training.environment import ending_cleanly, reproducible, resolve_device
from pipeline.training.fit import Fitted, fit, training_code
from pipeline.training.history import best_epoch, rows
from pipeline.training.launch import join, launch, processes_to_launch
from pipeline.training.pretraining.pretrain import check_pretraining, first_weights
from pipeline.training.task import Task
from pipeline.vision import models
from pipeline.vision.augmentation import Policy, build_policy
from pipeline.vision.card import WEIGHTS, ModelCard, save_model
from pipeline.workspace import Workspace


def train(workspace: Workspace, params: Params, variant: str) -> None:
    """Train ``variant`` and write its model folder, going on from its checkpoint if there is one.

    The model is the network as it was after its best epoch, see `best_epoch`.

    Where ``train.processes`` asks for several, this starts them and waits; each of them, like each
    that ``torchrun`` has started, comes here again.

    Raises:
        ConfigurationError: there is no such variant, network, augmentation or device.
        DataRefused: a split has too few images to train or to validate on.
        Busy: another process is training the same.
        PipelineError: the training diverged, or a batch does not fit into the GPU's memory; or one
            of several processes ended.
    """
    policy, settings = check_variant(params, variant), params.variant(variant)
    described_policy, _ = params.policy(variant)
    device = resolve_device(settings.device)
    processes = processes_to_launch(settings.processes, device, name=settings.device)
    if processes > 1:
        launch(processes, ["-m", "pipeline", "train", variant])
        return
    with ending_cleanly(), join(device) as ranks:
        packed = Packed.load(workspace.packed, copies=True)
        start = Task(variant, settings, policy, packed, ranks.device)
        first = first_weights(workspace, start, described_policy, ranks=ranks)
        task = replace(start, pretrained=first.weights)
        described = {
            **settings.model_dump(mode="json", exclude={"profile"}),
            "policy": described_policy,
            "processes": ranks.size,
            "pretrained_digest": task.pretrained_digest,
        }
        key = training_key(
            variant, described, data_digest=packed.digest, code=training_code(settings)
        )
        ranks.require_same(key)
        plans = workspace.state / "plans"
        if ranks.first:
            _train(workspace, task, described, key, plans, ranks, first.files)
        else:
            with reproducible(task.device):
                fit(task, None, plans=plans, ranks=ranks)


def check_variant(params: Params, variant: str) -> Policy:
    """Check the network, the pretraining and the augmentations of ``variant``; returns the last.

    Raises:
        ConfigurationError: one of them is not there, or cannot be set so; the message says where.
    """
    settings, where = params.variant(variant), f"variants.{variant}"
    models.check_architecture(
        settings.model,
        image_size=settings.image_size,
        architecture=settings.architecture,
        where=where,
    )
    check_pretraining(settings, where=where)
    described, stands = params.policy(variant)
    return build_policy(described, where=stands)


def _train(
    workspace: Workspace,
    task: Task,
    described: Mapping[str, Any],
    key: str,
    plans: Path,
    ranks: Ranks,
    files: Mapping[str, bytes],
) -> None:
    """As the process that writes; ``files`` are further ones for the model's folder."""
    from pipeline.tracking import mirror

    variant = task.variant
    output = workspace.model(variant)
    with (
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
            fitted = fit(task, folder, plans=plans, ranks=ranks)
        card, history = _card(task, fitted, key), rows(fitted.history)
        save_model(output, fitted.network, card, history, more=files)
        run.finish(sha256_file(output / WEIGHTS))
    best = best_epoch(fitted.history)
    logger.info(
        "%s: kept epoch %d of %d, balanced accuracy %.1f %% on the validation images;"
        " wrote %s, model.json and history.csv to %s",
        *(variant, best.epoch, len(fitted.history), 100 * best.row()["val_balanced_accuracy"]),
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
        test_time_augmentation=settings.test_time_augmentation,
        pretrained=task.pretrained_digest,
    )
