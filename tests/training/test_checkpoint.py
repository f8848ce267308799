"""A checkpoint is whole or it is not used, and one trainer at a time works in its folder."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.errors import Busy
from pipeline.training import checkpoint as module
from pipeline.training.checkpoint import (
    Checkpoint,
    CheckpointFolder,
    hold,
    prune,
    snapshot,
    training_key,
)
from pipeline.training.optimizer import OPTIMIZERS, Optimizer, build_optimizer, guarded_step


def checkpoint(epoch: int) -> Checkpoint:
    tensors = {
        "best/weight": torch.full((3, 2), float(epoch)),
        "optimizer/0.step": torch.tensor(float(epoch)),
        "best/counter": torch.tensor(epoch),
    }
    return Checkpoint(epoch, tensors, {"history": [{"epoch": epoch, "loss": 0.1}]})


def assert_is(found: Checkpoint | None, epoch: int) -> None:
    assert found is not None
    expected = checkpoint(epoch)
    assert (found.epoch, found.state) == (expected.epoch, expected.state)
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype is tensor.dtype


def saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_the_newest_two_are_kept_and_the_newest_is_loaded(tmp_path):
    with hold(tmp_path / "key") as folder:
        assert folder.load() is None
        for epoch in (1, 2, 3):
            folder.save(checkpoint(epoch))
            assert_is(folder.load(), epoch)
        assert [path.name[:6] for path in saved(folder.path)] == ["000002", "000003"]
        folder.save(checkpoint(4), keep=1)
        assert [path.name[:6] for path in saved(folder.path)] == ["000004"]


def test_equal_checkpoints_are_equal_files(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(checkpoint(1))
    before = {path: path.read_bytes() for path in saved(tmp_path)}
    folder.save(checkpoint(1))
    assert {path: path.read_bytes() for path in saved(tmp_path)} == before


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_cut_or_flipped_byte_is_noticed_and_the_previous_one_used(data):
    with tempfile.TemporaryDirectory() as name:
        folder = CheckpointFolder(Path(name))
        folder.save(checkpoint(1))
        folder.save(checkpoint(2))
        newest = saved(folder.path)[-1]
        content = bytearray(newest.read_bytes())
        position = data.draw(st.integers(0, len(content) - 1), label="position")
        if data.draw(st.booleans(), label="cut"):
            del content[position:]
        else:
            content[position] ^= data.draw(st.integers(1, 255), label="flipped bits")
        newest.write_bytes(content)
        assert_is(folder.load(), 1)


def test_with_every_checkpoint_damaged_training_starts_anew_and_says_so(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr("pipeline.console.logger.propagate", True)
    folder = CheckpointFolder(tmp_path)
    folder.save(checkpoint(1))
    folder.save(checkpoint(2))
    for path in saved(tmp_path):
        path.write_bytes(b"")
    assert folder.load() is None
    assert caplog.text.count("is damaged") == 2
    folder.save(checkpoint(1))
    assert_is(folder.load(), 1)


def test_what_a_killed_writer_left_is_swept_away(tmp_path):
    with hold(tmp_path / "key") as folder:
        folder.save(checkpoint(1))
        (folder.path / ".000002-half.safetensors").write_bytes(b"half")
    with hold(tmp_path / "key") as folder:
        assert_is(folder.load(), 1)
        assert not list(folder.path.glob(".*"))


def test_a_write_that_fails_leaves_the_old_one_and_nothing_of_itself(tmp_path, monkeypatch):
    write = Path.write_bytes

    def fill(path: Path, content: bytes) -> int:
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    folder = CheckpointFolder(tmp_path)
    folder.save(checkpoint(1))
    before = saved(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(OSError, match="No space left"):
        folder.save(checkpoint(2))
    assert list(tmp_path.iterdir()) == before
    assert_is(folder.load(), 1)


HOLDER = """
import fcntl, sys, time
with open(sys.argv[1] + "/lock", "ab") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def other_trainer(folder: Path, seconds: float) -> subprocess.Popen[str]:
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_trainer_of_the_same_is_busy_and_prune_spares_the_first(tmp_path):
    first = other_trainer(tmp_path / "key", 60)
    try:
        with (
            pytest.raises(Busy, match="another process is training exactly this"),
            hold(tmp_path / "key", patience=0.2),
        ):
            pass
        prune(tmp_path, keep=0)
        assert (tmp_path / "key").is_dir()
    finally:
        first.kill()
        first.communicate()
    with hold(tmp_path / "key", patience=5):
        prune(tmp_path, keep=0)
        assert (tmp_path / "key").is_dir()
    prune(tmp_path, keep=0)
    assert not (tmp_path / "key").exists()


def test_a_trainer_that_is_ending_is_waited_for(tmp_path):
    first = other_trainer(tmp_path / "key", 0.5)
    with hold(tmp_path / "key", patience=30):
        pass
    assert first.wait(timeout=30) == 0
    first.communicate()


def test_prune_keeps_the_folders_used_last(tmp_path):
    for age in range(5):
        with hold(tmp_path / f"key{age}") as folder:
            folder.save(checkpoint(1))
        os.utime(tmp_path / f"key{age}", (1000 - age, 1000 - age))
    with hold(tmp_path / "key4"):  # used again
        pass
    prune(tmp_path, keep=3)
    assert {path.name for path in tmp_path.iterdir()} == {"key4", "key0", "key1"}


@pytest.fixture
def pruned_by_another(monkeypatch):
    """Folders that vanish between being found and being locked, the first time."""
    lock, seen = module._try_lock, set[Path]()

    def try_lock(folder: Path):
        if folder not in seen:
            seen.add(folder)
            shutil.rmtree(folder)
        return lock(folder)

    monkeypatch.setattr(module, "_try_lock", try_lock)


@pytest.mark.usefixtures("pruned_by_another")
def test_two_may_prune_at_once(tmp_path):
    for name in ("key0", "key1"):
        (tmp_path / name).mkdir()
    prune(tmp_path, keep=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("pruned_by_another")
def test_a_folder_that_is_pruned_as_its_training_starts_is_made_again(tmp_path):
    with hold(tmp_path / "key") as folder:
        folder.save(checkpoint(1))
        assert_is(folder.load(), 1)


def test_a_folder_that_vanishes_as_it_is_looked_at_is_passed_over(tmp_path, monkeypatch):
    for name in ("key0", "key1"):
        (tmp_path / name).mkdir()
    is_dir = Path.is_dir

    def vanishing(path: Path) -> bool:
        there = is_dir(path)
        if path.name == "key0":
            path.rmdir()
        return there

    monkeypatch.setattr(Path, "is_dir", vanishing)
    prune(tmp_path, keep=0)
    assert not list(tmp_path.iterdir())


def test_the_key_follows_everything_that_shapes_a_training(tmp_path):
    code = tmp_path / "training" / "loop.py"
    code.parent.mkdir()
    code.write_text("one")

    def key(variant="a", lr=0.1, data="d"):
        return training_key(variant, {"lr": lr}, data_digest=data, code=[code])

    keys = [key(), key(variant="b"), key(lr=0.2), key(data="e")]
    code.write_text("two")
    keys.append(key())
    assert len(set(keys)) == 5
    assert keys[-1] == key()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_restored_optimizer_goes_on_to_the_same_bits(tmp_path, name):
    def build() -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(2, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 2))
        net.to(memory_format=torch.channels_last)
        return net, build_optimizer(net, name=name, lr=0.01, momentum=0.9, weight_decay=0.1)

    def step(net: nn.Module, optimizer: Optimizer) -> None:
        images = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(1))
        optimizer.zero_grad()
        loss = net(images).square().mean()
        loss.backward()
        guarded_step(optimizer, loss, max_norm=None)

    net, optimizer = build()
    for _ in range(3):
        step(net, optimizer)
    folder = CheckpointFolder(tmp_path)
    folder.save(Checkpoint(1, snapshot(net) | optimizer.state(), {}))
    restored, other = build()
    found = folder.load()
    assert found is not None
    restored.load_state_dict({k: v for k, v in found.tensors.items() if k in net.state_dict()})
    other.restore({k: v for k, v in found.tensors.items() if k not in net.state_dict()})
    for model, its in ((net, optimizer), (restored, other)):
        for _ in range(3):
            step(model, its)
    for ours, theirs in zip(net.parameters(), restored.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_snapshot_does_not_follow_the_model():
    net = nn.Linear(2, 2)
    before = snapshot(net)
    with torch.no_grad():
        net.weight += 1
    assert not torch.equal(before["weight"], net.weight)
