"""A case as the pipeline's own training takes it."""

from __future__ import annotations

import torch

from benchmarks.loops.case import LABEL_SMOOTHING, LR, WEIGHT_DECAY, Case
from benchmarks.results import PROJECT
from benchmarks.train_images import packed
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
            "batch_size": case.batch_size,
            "epochs": case.epochs,
            "device": case.device,
            "optimizer": "adamw",
            "lr": LR,
            "weight_decay": WEIGHT_DECAY,
            "label_smoothing": LABEL_SMOOTHING,
        }
    )
    return Task(
        "benchmark",
        settings,
        policy=build_policy(params.augment.policy, where="augment.policy"),
        packed=packed(case.side, case.channels, case.images),
        device=torch.device(case.device),
    )
