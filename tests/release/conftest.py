"""A project whose variants are trained and evaluated, to copy, with an empty store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from pipeline.artifacts import sha256_file
from pipeline.data.pack import Packed, pack
from pipeline.evaluation.compare import compare
from pipeline.evaluation.evaluate import evaluate
from pipeline.params import Params, load
from pipeline.vision.card import ModelCard, save_model
from pipeline.vision.models import Classifier, build
from pipeline.workspace import Workspace
from tests.mlflow_store import give_store
from tests.packing import augment_params, make_workspace

PROJECT = Path(__file__).parents[2]
HISTORY = [
    {
        "epoch": epoch,
        **dict.fromkeys(("lr", "train_accuracy", "val_accuracy", "val_balanced_accuracy"), 0.5),
        **dict.fromkeys(("train_loss", "val_loss"), 1 / epoch),
    }
    for epoch in (1, 2, 3)
]


@dataclass(frozen=True)
class Project:
    """A workspace with results, and its settings."""

    workspace: Workspace
    params: Params

    def weights(self, variant: str) -> str:
        return sha256_file(self.workspace.model(variant) / "weights.safetensors")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Networks this small are faster on one thread, and do not wait for a busy machine's second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Variants ``good``, trained for a moment, and ``weak``, not at all."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 180, (160, 20, 20)).astype(np.uint8)
    pixels[1::2] += 12
    root = tmp_path_factory.mktemp("release") / "project"
    workspace = make_workspace(root, [Image.fromarray(image) for image in pixels])
    split = pd.read_parquet(workspace.split)
    split["split"] = [("train", "val", "test", "train")[i // 2 % 4] for i in range(len(split))]
    split.to_parquet(workspace.split)  # both classes in every split
    params = write_params(workspace, variants=("good", "weak"))
    pack(workspace, augment_params())
    for variant in ("good", "weak"):
        make_variant(workspace, params, variant, steps=15 if variant == "good" else 0)
    compare(workspace, params)
    return Project(workspace, params)


@pytest.fixture(scope="session")
def make_project(
    template: Project, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Project]:
    """Copy the template, with an empty store."""

    def make() -> Project:
        workspace = Workspace(tmp_path_factory.mktemp("project") / "copy")
        shutil.copytree(template.workspace.root, workspace.root)
        give_store(workspace)
        return Project(workspace, load(workspace.params))

    return make


@pytest.fixture
def project(make_project: Callable[[], Project]) -> Project:
    return make_project()


@pytest.fixture
def choose(project: Project) -> Callable[..., Project]:
    """Leave some of the variants in ``params.yaml`` and compare them anew."""

    def choose(*variants: str, **changes: Any) -> Project:
        params = write_params(project.workspace, variants=variants, **changes)
        compare(project.workspace, params)
        return Project(project.workspace, params)

    return choose


def write_params(workspace: Workspace, *, variants: tuple[str, ...], **register: Any) -> Params:
    values = yaml.safe_load((PROJECT / "params.yaml").read_text("utf-8"))
    small = {"model": "small_cnn", "architecture": {"width": 8}, "image_size": 16, "device": "cpu"}
    values["variants"] = dict.fromkeys(variants, small)
    values["augment"]["image_size"] = values["train"]["image_size"] = 16
    values["evaluate"] |= {
        "resamples": 100,
        "gallery": 2,
        "sections": ["numbers", "curves", "cost"],
    }
    values["register"] |= {"model": "shapes", "resamples": 100, "max_loss": 0.5} | register
    workspace.params.write_text(yaml.safe_dump(values), encoding="utf-8")
    return load(workspace.params)


def make_variant(
    workspace: Workspace, params: Params, variant: str, *, steps: int, seed: int = 0
) -> None:
    """Train a small network for some steps, write its folder, and evaluate it."""
    packed = Packed.load(workspace.packed)
    settings = params.variant(variant)
    torch.manual_seed(seed)
    classifier = build(
        settings.model,
        channels=packed.channels,
        num_classes=len(packed.classes),
        image_size=settings.image_size,
        architecture=settings.architecture,
        mean=packed.mean,
        std=packed.std,
    )
    learn(classifier, packed, steps)
    card = ModelCard(
        variant=variant,
        model=settings.model,
        architecture=settings.architecture,
        classes=packed.classes,
        channels=packed.channels,
        image_size=settings.image_size,
        stored_size=packed.image_size,
        mean=packed.mean,
        std=packed.std,
        data_digest=packed.digest,
        training_key=f"{seed}{variant}".encode().hex().ljust(64, "0"),
        seed=seed,
        parameters=sum(p.numel() for p in classifier.parameters()),
        plan={"precision": "float32", "memory_format": "contiguous_format"},
    )
    save_model(workspace.model(variant), classifier, card, HISTORY)
    evaluate(workspace, params, variant)


def learn(classifier: Classifier, packed: Packed, steps: int) -> None:
    rows = packed.rows("train")
    images = torch.from_numpy(packed.images[rows]).permute(0, 3, 1, 2).float() / 255
    targets = torch.from_numpy(packed.index["target"].to_numpy()[rows])
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.01)
    classifier.train()
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(classifier(images), targets).backward()
        optimizer.step()
