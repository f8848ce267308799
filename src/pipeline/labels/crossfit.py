"""Out-of-fold predictions: what networks say of images that they did not learn from."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.console import logger
from pipeline.data.pack import Packed
from pipeline.errors import PipelineError
from pipeline.labels.folds import Splits
from pipeline.params import Params, VariantParams
from pipeline.training.checkpoint import FOLDERS_KEPT, CheckpointFolder, hold, prune, training_key
from pipeline.training.distributed import ALONE
from pipeline.training.environment import reproducible, resolve_device
from pipeline.training.fit import fit, training_code
from pipeline.training.pretraining.pretrain import first_weights
from pipeline.training.task import Task
from pipeline.vision import models
from pipeline.vision.augmentation import build_policy
from pipeline.vision.inference import predict_logits
from pipeline.vision.metrics import Floats
from pipeline.workspace import Workspace

_CHUNK_BYTES = 32 * 2**20


def out_of_fold(
    workspace: Workspace, params: Params, variant: str, packed: Packed, splits: Sequence[Splits]
) -> Floats:
    """Train ``variant`` once a fold; returns the probabilities (N, K) of all images.

    Each fold is a training like any other, by the same engine and with checkpoints: what an earlier
    call has trained is taken over, to the same bits. Its network sees the images that ``splits``
    calls train, has their mean and standard deviation and their class weights, is kept as it was
    after its best epoch on those called val, and predicts those called test.

    Raises:
        ConfigurationError: there is no such network, augmentation or device.
        Busy: another process is training the same.
        PipelineError: a training diverged, or a batch does not fit into the GPU's memory.
    """
    settings = _settings(params, variant)
    models.check_model(settings.model, where=f"variants.{variant}.model")
    described_policy, where = params.policy(variant)
    policy, device = build_policy(described_policy, where=where), resolve_device(settings.device)
    start = Task(variant, settings, policy, packed, device)
    first = first_weights(workspace, start, described_policy, ranks=ALONE)
    shaping = settings.model_dump(mode="json", exclude={"profile"})
    described = {**shaping, "policy": described_policy}
    moments = Moments.of(packed)
    trainings = workspace.state / "label-folds"
    probabilities = np.full((len(packed.index), len(packed.classes)), np.nan)
    for number, split in enumerate(splits, start=1):
        task = Task(
            f"{variant}, fold {number} of {len(splits)}",
            settings,
            policy=policy,
            packed=_as_fold(packed, split, moments),
            device=device,
            pretrained=first.weights,
        )
        key = _key(task, described, split)
        with hold(trainings / key) as folder:
            prune(trainings, keep=max(FOLDERS_KEPT, 2 * len(splits)))
            tested = np.flatnonzero(split == "test")
            probabilities[tested] = _predict(task, folder, tested, workspace.state / "plans")
        _log_fold(task, probabilities[tested], tested)
    return probabilities


def _settings(params: Params, variant: str) -> VariantParams:
    settings = params.variant(variant)
    epochs = params.labels.epochs
    return settings if epochs is None else settings.model_copy(update={"epochs": epochs})


def _predict(task: Task, folder: CheckpointFolder, rows: NDArray[np.int64], plans: Path) -> Floats:
    with reproducible(task.device):
        fitted = fit(task, folder, plans=plans)
        logits = predict_logits(
            fitted.network,
            task.packed.images,
            rows=rows,
            device=task.device,
            image_size=task.settings.image_size,
            precision=fitted.plan.precision,
            memory_format=fitted.plan.memory_format,
            what=f"predicting with {task.variant}",
        )
    if not np.isfinite(logits).all():
        raise PipelineError(
            f"{task.variant}: the network's output is not finite; lower the variant's lr"
        )
    probabilities: Floats = torch.from_numpy(logits).double().softmax(dim=1).numpy()
    return probabilities


def _log_fold(task: Task, probabilities: Floats, rows: NDArray[np.int64]) -> None:
    targets = task.packed.index["target"].to_numpy()[rows]
    agreeing = (probabilities.argmax(axis=1) == targets).mean()
    logger.info(
        "%s: agrees with %.1f %% of the %s labels it did not learn",
        *(task.variant, 100 * agreeing, f"{len(rows):,}"),
    )


@dataclasses.dataclass(frozen=True)
class Moments:
    """Sums over each image's pixels, whole numbers: those of any choice of images are exact."""

    pixels: int
    """Of an image."""
    sums: NDArray[np.int64]
    """(N, C) of the values from 0 to 255."""
    squares: NDArray[np.int64]
    """(N, C)"""

    @classmethod
    def of(cls, packed: Packed) -> Moments:
        images = packed.images
        sums = np.empty((len(images), packed.channels), np.int64)
        squares = np.empty_like(sums)
        step = max(1, _CHUNK_BYTES // (4 * packed.image_size**2 * packed.channels))
        for start in range(0, len(images), step):
            values = images[start : start + step].astype(np.uint32)
            sums[start : start + step] = values.sum(axis=(1, 2))
            squares[start : start + step] = (values * values).sum(axis=(1, 2))
        return cls(packed.image_size**2, sums, squares)

    def mean_and_std(self, chosen: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """(C,) each, of the pixels of the ``chosen`` (N,) images in [0, 1]."""
        count = self.pixels * int(chosen.sum())
        mean = self.sums[chosen].sum(axis=0) / count
        variance = self.squares[chosen].sum(axis=0) / count - mean**2
        return mean / 255, np.sqrt(variance.clip(min=0)) / 255


def _as_fold(packed: Packed, split: Splits, moments: Moments) -> Packed:
    """``packed`` with the splits of a fold in place of its own, and what follows from them."""
    mean, std = moments.mean_and_std(split == "train")
    return dataclasses.replace(
        packed,
        index=packed.index.assign(split=split),
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
    )


def _key(task: Task, described: dict[str, Any], split: Splits) -> str:
    digest = hashlib.sha256("\n".join(split.tolist()).encode()).hexdigest()
    return training_key(
        task.variant,
        {**described, "splits": digest, "pretrained_digest": task.pretrained_digest},
        data_digest=task.packed.digest,
        code=[Path(__file__), *training_code(task.settings)],
    )
