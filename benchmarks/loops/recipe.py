"""A case as the pipeline's own training takes it."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.loops.case import LABEL_SMOOTHING, LR, WEIGHT_DECAY, Case
from benchmarks.results import PROJECT
from benchmarks.train_images import idx_images, pack_images, packed
from pipeline.data.pack import Packed
from pipeline.params import load
from pipeline.training.task import Task
from pipeline.vision.augmentation import build_policy


def recipe(case: Case) -> Task:
    """The default settings of ``params.yaml`` but for what the case sets."""
    params = load(PROJECT / "params.yaml")
    settings = next(iter(params.variants.values())).model_copy(
        update={
            "model": case.model,
            "architecture": {},
            "image_size": case.side,
            "seed": case.seed,
            "batch_size": case.batch_size,
            "epochs": case.epochs,
            "device": case.device,
            "optimizer": "adamw",
            "lr": LR,
            "weight_decay": WEIGHT_DECAY,
            "label_smoothing": LABEL_SMOOTHING,
            "class_weights": "none",
            "use_sample_weights": False,
        }
    )
    return Task(
        "benchmark",
        settings,
        policy=build_policy(params.augment.policy, where="augment.policy"),
        packed=_data(case),
        device=torch.device(case.device),
    )


def _data(case: Case) -> Packed:
    if not case.idx_folder:
        return packed(case.side, case.channels, case.images)
    folder = Path(case.idx_folder)
    train, test = idx_images(folder, "train", case.images), idx_images(folder, "t10k")
    return pack_images(train, test, [str(number) for number in range(case.classes)])
