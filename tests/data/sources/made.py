"""Files of foreign formats, made small."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray


def idx_images(count: int, side: int = 4, claimed: int | None = None) -> bytes:
    pixels = np.arange(count * side * side, dtype=np.uint64).astype(np.uint8)
    return struct.pack(">HBBIII", 0, 8, 3, claimed or count, side, side) + pixels.tobytes()


def idx_labels(labels: Sequence[int], claimed: int | None = None) -> bytes:
    return struct.pack(">HBBI", 0, 8, 1, claimed or len(labels)) + bytes(labels)


def write_idx(
    folder: Path, name: str, *, count: int, side: int, labels: Sequence[int], packed: bool = False
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pack, suffix = (gzip.compress, ".gz") if packed else (bytes, "")
    files = {"images-idx3": idx_images(count, side), "labels-idx1": idx_labels(labels)}
    for kind, content in files.items():
        (folder / f"{name}-{kind}-ubyte{suffix}").write_bytes(pack(content))


def fake_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    """Files that torchvision takes for CIFAR-10: an apple to train on, a pear to test with.

    Returns the pixels of both, (2, 32, 32, 3).
    """
    from torchvision.datasets import CIFAR10

    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), np.uint8)
    batches = {
        "data_batch_1": {"data": pixels[:1].reshape(1, -1), "labels": [0]},
        "test_batch": {"data": pixels[1:].reshape(1, -1), "labels": [1]},
        "batches.meta": {"label_names": ["apple", "pear"]},
    }
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    pinned = {}
    for name, content in batches.items():
        (folder / name).write_bytes(pickle.dumps(content))
        pinned[name] = hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
    train, test, meta = pinned.items()
    monkeypatch.setattr(CIFAR10, "train_list", [list(train)])
    monkeypatch.setattr(CIFAR10, "test_list", [list(test)])
    monkeypatch.setattr(
        CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]}
    )
    return pixels.transpose(0, 2, 3, 1)


def shard(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
