"""Checkpoints: what a training needs to go on, whatever ended it.

A training has a folder, named by the hash of all that shapes its result (`training_key`):

- ``lock``: held by the trainer, so that one at a time works there;
- ``journal.jsonl``: the metrics of each epoch;
- ``EPOCH-SHA256.safetensors``: the newest two checkpoints. Their names hold the hash of their
  bytes, so that a truncated or altered one is noticed. Nothing is ever unpickled.

The checkpoint of a finished training stays, alone and small: where DVC is killed between the end of
a training and the writing of ``dvc.lock``, the repeated stage writes its outputs at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from torch import Tensor, nn

from pipeline.artifacts import replacing
from pipeline.console import logger
from pipeline.errors import Busy

FORMAT = 1
FOLDERS_KEPT = 20

_NAME = re.compile(r"(?P<epoch>\d{6})-(?P<sha256>[0-9a-f]{64})\.safetensors")
_LIBRARIES = ("timm", "torch", "torchvision")


def training_key(
    variant: str, settings: Mapping[str, Any], *, data_digest: str, code: Iterable[Path]
) -> str:
    """The hash (64 hex digits) of all that a training's result follows from.

    Args:
        variant: its name.
        settings: all that it is trained with, the augmentation included, as JSON.
        data_digest: of the packed images.
        code: files whose content shapes the result.
    """
    sources = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in code}
    identity = {
        "format": FORMAT,
        "variant": variant,
        "settings": settings,
        "data": data_digest,
        "code": {name: hashlib.sha256(source).hexdigest() for name, source in sources.items()},
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Checkpoint:
    """What is known after ``epoch`` epochs: tensors by name, and ``state``, which is JSON."""

    epoch: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """In the format of safetensors; equal checkpoints are equal bytes."""
        return safetensors.torch.save(
            {name: tensor.cpu().contiguous() for name, tensor in self.tensors.items()},
            # One entry alone: safetensors promises no order of several.
            metadata={"state": json.dumps([self.epoch, self.state], allow_nan=False)},
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> Checkpoint:
        # safetensors reads metadata from files alone; its header is JSON after eight bytes of
        # length.
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        epoch, state = json.loads(header["__metadata__"]["state"])
        return cls(epoch, safetensors.torch.load(content), state)


class CheckpointFolder:
    """The checkpoints of one training; `hold` gives it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    def save(self, checkpoint: Checkpoint, *, keep: int = 2) -> None:
        """Write ``checkpoint``, on disk when this returns, and keep the newest ``keep`` files."""
        content = checkpoint.to_bytes()
        name = f"{checkpoint.epoch:06d}-{hashlib.sha256(content).hexdigest()}.safetensors"
        with replacing(self.path / name) as temporary:
            temporary.write_bytes(content)
        for old in self._newest_first()[keep:]:
            old.unlink()

    def load(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; None if there is none. A damaged one is removed."""
        for file in self._newest_first():
            content = file.read_bytes()
            name = _NAME.fullmatch(file.name)
            if name and hashlib.sha256(content).hexdigest() == name["sha256"]:
                return Checkpoint.from_bytes(content)
            logger.warning("%s is damaged; the training goes on from an earlier state", file)
            file.unlink()
        return None

    def _newest_first(self) -> list[Path]:
        return sorted((f for f in self.path.iterdir() if _NAME.fullmatch(f.name)), reverse=True)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's state on the CPU, which later steps do not change."""
    return {
        name: torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)
        for name, tensor in model.state_dict().items()
    }


@contextlib.contextmanager
def hold(path: Path, *, patience: float = 15.0) -> Iterator[CheckpointFolder]:
    """Make and lock the folder of one training; the kernel drops the lock with its holder.

    A trainer that is being ended is waited for, ``patience`` seconds at most.

    Raises:
        Busy: another trainer keeps holding it.
    """
    deadline = time.monotonic() + patience
    path.mkdir(parents=True, exist_ok=True)
    while (lock := _try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise Busy(
                f"{path}: another process is training exactly this (same settings, data and code);"
                " wait until it ends, then run again to take over its result"
            )
        time.sleep(0.1)
        path.mkdir(parents=True, exist_ok=True)  # `prune` may have removed it
    with lock:
        os.utime(path)  # `prune` goes by it
        for torn in path.glob(".*.safetensors"):
            torn.unlink()
        yield CheckpointFolder(path)


def prune(checkpoints: Path, *, keep: int = FOLDERS_KEPT) -> None:
    """Remove the folders under ``checkpoints`` but the ``keep`` last used and those in use.

    Another process may do so at the same time.
    """
    used = dict[Path, int]()
    for path in checkpoints.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.is_dir():
                used[path] = path.stat().st_mtime_ns
    for folder in sorted(used, key=used.__getitem__, reverse=True)[keep:]:
        if lock := _try_lock(folder):
            with lock:
                # Its training may start meanwhile, and make in it what it needs.
                shutil.rmtree(folder, ignore_errors=True)


def _try_lock(folder: Path) -> IO[bytes] | None:
    """The open, locked file ``lock`` in ``folder``; None where another holds it or the folder is
    gone."""
    path = folder / "lock"
    try:
        file = path.open("ab")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between our opening and locking it, `prune` may have removed the folder.
        if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    file.close()
    return None
