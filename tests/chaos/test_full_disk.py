"""A disk that runs full while a checkpoint is written costs that checkpoint alone."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import EPOCHS, Training

pytestmark = pytest.mark.chaos

SIZE = "4M"


@pytest.fixture
def small_disk(training: Training) -> Iterator[Path]:
    """The folder of the checkpoints, as a file system of `SIZE`."""
    folder = training.root / "checkpoints"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a file system here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_old_checkpoints_stay_whole_and_the_training_goes_on(training, undisturbed, small_disk):
    done = training.project.dvc("repro", "--single-item", "train@first", check=False)
    assert done.returncode != 0
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    kept = training.checkpoints()
    assert 1 < len(kept) < EPOCHS
    assert not training.torn()
    for path in small_disk.glob("*/[0-9]*.safetensors"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in path.name

    alone = training.project.pipeline("train", "first", check=False)
    assert alone.returncode == 1
    assert training.checkpoints() == kept

    subprocess.run(["mount", "-o", "remount,size=100M", str(small_disk)], check=True)
    training.repro()
    assert training.checkpoints() == undisturbed.checkpoints()
    assert training.weights() == undisturbed.weights()
