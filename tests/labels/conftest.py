"""A workspace of discs and bars, some of them with the other's label."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from pipeline.artifacts import write_json
from pipeline.data.ingestion.canonical import metadata_bytes
from pipeline.data.manifest import write_table
from pipeline.data.pack import pack
from pipeline.data.split import split
from pipeline.labels.judge import judge_labels
from pipeline.params import Params, load
from pipeline.workspace import Workspace
from tests.manifests import manifest_table

PROJECT = Path(__file__).resolve().parents[2]
CLASSES = ("bar", "disc")
IMAGES = 200
SIDE = 24
TINY: dict[str, Any] = {
    "model": "small_cnn",
    "architecture": {"width": 8, "dropout": 0.1},
    "device": "cpu",
    "precision": "float32",
    "memory_format": "channels_last",
    "image_size": SIDE,
    "epochs": 6,
    "batch_size": 16,
    "optimizer": "sgd",
    "lr": 0.05,
    "weight_decay": 0.0005,
}


def draw(kind: int, rng: np.random.Generator) -> np.ndarray:
    """A bright bar (0) or a dark disc (1) on noise, (SIDE, SIDE) uint8."""
    pixels = rng.integers(90, 150, (SIDE, SIDE))
    y, x = rng.integers(7, SIDE - 7, 2)
    if kind == 0:
        pixels[:, x : x + 3] += 80
    else:
        rows, columns = np.mgrid[:SIDE, :SIDE]
        pixels[(rows - y) ** 2 + (columns - x) ** 2 < 30] -= 80
    return pixels.astype(np.uint8)


@dataclass(frozen=True)
class Planted:
    """What is known of a workspace that is scanned, split and packed."""

    workspace: Workspace
    truth: dict[str, str]
    wrong: frozenset[str]
    """The images whose label in ``data/`` is not the true one."""

    def params(self, **labels: Any) -> Params:
        """The settings, with ``labels`` over those of that section."""
        values = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
        values["variants"] = {"tiny": TINY, "other": TINY | {"lr": 0.01}}
        values["augment"] |= {"image_size": SIDE, "policy": {"flip": {"horizontal": 0.5}}}
        values["labels"] |= {"folds": 3, "shown": 10} | labels
        self.workspace.params.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        return load(self.workspace.params)

    @property
    def folder(self) -> Path:
        return self.workspace.labels("tiny")

    def copied(self, to: Path) -> Planted:
        shutil.copytree(self.workspace.root, to)
        return Planted(Workspace(to), self.truth, self.wrong)


def plant(root: Path) -> Planted:
    """8 % of the labels are wrong; image 6 is a copy of image 4."""
    workspace = Workspace(root)
    (workspace.data / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    kinds = [i % 2 for i in range(IMAGES)]
    flipped = set(rng.choice(IMAGES, size=IMAGES * 8 // 100, replace=False).tolist()) - {4, 6}
    names, labels, hashes = [], [], []
    for i, kind in enumerate(kinds):
        name = f"images/{i:05}.png"
        path = workspace.data / name
        Image.fromarray(draw(kind, rng)).save(path)
        if i == 6:
            shutil.copy(workspace.data / "images" / "00004.png", path)
        names.append(name)
        labels.append(CLASSES[kind ^ (i in flipped)])
        hashes.append(hashlib.sha256(path.read_bytes()).hexdigest())
    workspace.metadata.write_bytes(metadata_bytes({"file_name": names, "label": labels}))
    write_json(workspace.classes, {"classes": list(CLASSES)})
    clusters = [1000 + (4 if i == 6 else i) for i in range(IMAGES)]
    table = manifest_table(
        labels,
        sha256=hashes,
        width=[SIDE] * IMAGES,
        height=[SIDE] * IMAGES,
        pixel_hash=[f"{cluster:032}" for cluster in clusters],
        duplicate_cluster=clusters,
        near_cluster=clusters,
    )
    write_table(workspace.accepted, table)
    planted = Planted(
        workspace,
        truth={name: CLASSES[kind] for name, kind in zip(names, kinds, strict=True)},
        wrong=frozenset(names[i] for i in flipped),
    )
    params = planted.params()
    split(workspace, params.split)
    pack(workspace, params.augment)
    return planted


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are faster on one thread, and do not wait for a busy machine's second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def _planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted") / "project")


@pytest.fixture(scope="session")
def _judged(_planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    planted = _planted.copied(tmp_path_factory.mktemp("judged") / "project")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    judge_labels(planted.workspace, planted.params())
    torch.set_num_threads(threads)
    return planted


@pytest.fixture
def planted(_planted: Planted, tmp_path: Path) -> Planted:
    """A workspace whose labels were not judged yet."""
    return _planted.copied(tmp_path / "project")


@pytest.fixture
def judged(_judged: Planted, tmp_path: Path) -> Planted:
    """A workspace whose labels were judged by ``tiny``; its trainings are taken over."""
    return _judged.copied(tmp_path / "judged")
