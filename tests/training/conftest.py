"""Small packed data that a network learns in seconds, and a workspace around it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from pipeline.artifacts import write_json
from pipeline.data.pack import Packed
from pipeline.params import Params, load
from pipeline.training.loop import Trainer
from pipeline.training.plan import Plan
from pipeline.training.task import Task, build_network, build_splits
from pipeline.vision.augmentation import build_policy
from pipeline.workspace import Workspace

CLASSES = ["plain", "striped"]
SETTINGS: dict[str, Any] = {
    "model": "small_cnn",
    "architecture": {"width": 8, "dropout": 0.1},
    "device": "cpu",
    "precision": "float32",
    "memory_format": "channels_last",
    "execution": "eager",
    "profile": False,
    "processes": 1,
    "seed": 0,
    "image_size": 32,
    "epochs": 4,
    "batch_size": 16,
    "optimizer": "sgd",
    "lr": 0.02,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "schedule": "one_cycle",
    "warmup": 0.2,
    "label_smoothing": 0.05,
    "class_weights": "balanced",
    "use_sample_weights": True,
    "gradient_clip": 5.0,
    "progressive_resizing": None,
    "gradient_accumulation": 1,
    "sampling": "shuffle",
    "policy": None,
    "soft_labels": None,
    "ema": None,
    "early_stopping": None,
    "test_time_augmentation": "none",
    "pretrained": None,
    "freeze": [],
}
POLICY = {
    "flip": {"horizontal": 0.5, "vertical": 0.5},
    "affine": {"shift": 0.03},
    "erase": {"probability": 0.1, "area": 0.05},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are faster on one thread, and do not wait for a busy machine's second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Grey noise, half of it with stripes: 64 images to train on, 32 for validation."""
    workspace = Workspace(tmp_path)
    write_packed(workspace.packed)
    return workspace


def write_packed(folder: Path, *, images: int = 96, size: int = 32) -> None:
    folder.mkdir(parents=True)
    targets = np.arange(images) % 2
    generator = np.random.default_rng(0)
    pixels = generator.integers(60, 140, (images, size, size, 1), dtype=np.uint8)
    pixels[targets == 1, ::4] += 60
    np.save(folder / "images.npy", pixels)
    split = np.where(np.arange(images) % 6 < 4, "train", "val")
    index = pd.DataFrame(
        {
            "image_id": [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels],
            "file_name": [f"images/{i:04d}.png" for i in range(images)],
            "label": [CLASSES[target] for target in targets],
            "target": targets.astype(np.int64),
            "weight": np.ones(images, np.float32),
            "split": split,
        }
    )
    index.to_parquet(folder / "index.parquet", index=False)
    train = pixels[split == "train"] / 255
    write_json(
        folder / "packed.json",
        {
            "image_size": size,
            "channels": 1,
            "classes": CLASSES,
            "mean": [float(train.mean())],
            "std": [float(train.std())],
            "images": images,
            "extra_columns": [],
            "digest": hashlib.sha256(pixels.tobytes()).hexdigest(),
        },
    )


@pytest.fixture
def write_params(workspace: Workspace, params_text: str) -> Callable[..., Params]:
    """Write and load the committed ``params.yaml`` with one variant, ``tiny``, set as given."""

    def write(**settings: Any) -> Params:
        values = yaml.safe_load(params_text)
        values["variants"] = {"tiny": SETTINGS | settings}
        values["augment"]["policy"] = POLICY
        workspace.params.write_text(yaml.safe_dump(values), encoding="utf-8")
        return load(workspace.params)

    return write


@pytest.fixture
def make_task(workspace: Workspace, write_params: Callable[..., Params]) -> Callable[..., Task]:
    """The task of training ``tiny`` with these settings."""

    def make(**settings: Any) -> Task:
        params = write_params(**settings)
        variant = params.variant("tiny")
        return Task(
            "tiny",
            variant,
            policy=build_policy(params.augment.policy, where="augment.policy"),
            packed=Packed.load(workspace.packed),
            device=torch.device(variant.device),
        )

    return make


def trainer_of(task: Task, **changes: Any) -> Trainer:
    """A trainer at the start of ``task``; ``changes`` are other arguments of `Trainer`."""
    train, val = build_splits(task)
    plan = Plan("float32", torch.get_num_threads())
    arguments = {"plan": plan, "policy": task.policy, "train": train, "val": val} | changes
    return Trainer(build_network(task), task.settings, **arguments)


@pytest.fixture
def make_trainer(make_task: Callable[..., Task]) -> Callable[..., Trainer]:
    """The trainer of ``tiny`` with these settings."""
    return lambda **settings: trainer_of(make_task(**settings))
