"""Training learns, gives the same bits each time, and goes on from wherever it was ended."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.errors import ConfigurationError, PipelineError
from pipeline.journal import read
from pipeline.training.checkpoint import CheckpointFolder, hold, snapshot
from pipeline.training.distributed import ALONE, Ranks
from pipeline.training.environment import reproducible
from pipeline.training.fit import Fitted, fit
from pipeline.training.task import Task
from tests.training.ending import Ended, ended_after

EPOCHS = 4
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def every_epoch_is_saved(monkeypatch):
    monkeypatch.setattr("pipeline.training.fit.SAVE_EVERY", 0.0)


def run(task: Task, folder: Path) -> Fitted:
    with reproducible(task.device), hold(folder) as checkpoints:
        return fit(task, checkpoints, plans=folder.parent / "plans")


def assert_same_bits(one: Fitted, other: Fitted) -> None:
    assert one.history == other.history
    theirs = snapshot(other.network)
    for name, tensor in snapshot(one.network).items():
        assert torch.equal(tensor, theirs[name]), name


def test_two_classes_are_learned(make_task, tmp_path):
    fitted = run(make_task(epochs=8), tmp_path / "key")
    assert max(epoch.val_balanced_accuracy for epoch in fitted.history) > 0.9
    assert fitted.history[-1].train_loss < fitted.history[0].train_loss
    entries = read(tmp_path / "key" / "journal.jsonl")
    assert [entry.step for entry in entries] == list(range(1, 9))
    assert {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"} <= set(
        entries[0].metrics
    )
    assert entries[0].metrics["images_per_second"] > 0
    assert "system/cpu_utilization_percentage" in entries[0].metrics


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_two_runs_give_the_same_bits(make_task, tmp_path, precision, optimizer):
    task = make_task(epochs=2, precision=precision, optimizer=optimizer, lr=0.002)
    torch.manual_seed(1)
    first = run(task, tmp_path / "first")
    torch.manual_seed(2)
    assert_same_bits(first, run(task, tmp_path / "second"))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("epochs_done", range(1, EPOCHS + 1))
def test_an_ended_run_goes_on_to_the_same_bits(make_task, tmp_path, epochs_done, optimizer):
    task = make_task(epochs=EPOCHS, optimizer=optimizer, lr=0.005)
    undisturbed = run(task, tmp_path / "undisturbed")
    with ended_after(epochs_done):
        run(task, tmp_path / "ended")
    assert_same_bits(undisturbed, run(task, tmp_path / "ended"))
    assert [entry.step for entry in read(tmp_path / "ended" / "journal.jsonl")] == [1, 2, 3, 4]


def test_an_epoch_that_was_journaled_but_not_saved_is_not_journaled_twice(
    make_task, tmp_path, monkeypatch
):
    task = make_task(epochs=3)
    undisturbed = run(task, tmp_path / "undisturbed")
    save = CheckpointFolder.save

    def end_before_second(self, checkpoint, **kwargs):
        if checkpoint.epoch == 2:
            raise Ended
        save(self, checkpoint, **kwargs)

    monkeypatch.setattr(CheckpointFolder, "save", end_before_second)
    with pytest.raises(Ended):
        run(task, tmp_path / "ended")
    monkeypatch.setattr(CheckpointFolder, "save", save)
    journal = tmp_path / "ended" / "journal.jsonl"
    before = journal.read_bytes()
    assert_same_bits(undisturbed, run(task, tmp_path / "ended"))
    assert journal.read_bytes().startswith(before)
    assert [entry.step for entry in read(journal)] == [1, 2, 3]


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(
    make_task, tmp_path, monkeypatch
):
    task = make_task(epochs=EPOCHS)
    undisturbed = run(task, tmp_path / "undisturbed")
    save = CheckpointFolder.save

    def end_before_last(self, checkpoint, **kwargs):
        if checkpoint.epoch == EPOCHS:
            raise Ended
        save(self, checkpoint, **kwargs)

    monkeypatch.setattr(CheckpointFolder, "save", end_before_last)
    with pytest.raises(Ended):
        run(task, tmp_path / "ended")
    monkeypatch.setattr(CheckpointFolder, "save", save)
    before, newest = sorted((tmp_path / "ended").glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-1])
    loaded: list[int] = []
    load = CheckpointFolder.load

    def noted(self):
        loaded.append((found := load(self)).epoch)
        return found

    monkeypatch.setattr(CheckpointFolder, "load", noted)
    assert_same_bits(undisturbed, run(task, tmp_path / "ended"))
    assert loaded == [int(before.name[:6])] == [EPOCHS - 2]


def test_quick_epochs_are_not_all_saved(make_task, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.training.fit.SAVE_EVERY", 3600.0)
    saved: list[int] = []
    save = CheckpointFolder.save

    def counted(self, checkpoint, **kwargs):
        saved.append(checkpoint.epoch)
        save(self, checkpoint, **kwargs)

    monkeypatch.setattr(CheckpointFolder, "save", counted)
    run(make_task(epochs=3), tmp_path / "key")
    assert saved == [3]


def test_a_finished_training_is_taken_over_without_a_step(make_task, tmp_path, monkeypatch):
    task = make_task(epochs=2)
    first = run(task, tmp_path / "key")
    monkeypatch.setattr("pipeline.training.loop.Trainer.step", None)
    assert_same_bits(first, run(task, tmp_path / "key"))
    kept = list((tmp_path / "key").glob("*.safetensors"))
    weights = sum(t.numel() * t.element_size() for t in snapshot(first.network).values())
    assert len(kept) == 1
    assert kept[0].stat().st_size < weights + 20_000


def test_a_resumed_run_keeps_the_plan_of_its_checkpoint(make_task, tmp_path):
    threads = torch.get_num_threads()
    task = make_task(epochs=2, precision="auto")
    with ended_after(1):
        run(task, tmp_path / "key")
    torch.set_num_threads(threads + 1)
    try:
        assert run(task, tmp_path / "key").plan.threads == threads
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)


class Two(Ranks):
    """The first of two processes, the other of which does nothing."""

    size = 2

    def part(self, batch):
        return batch[: len(batch) // 2]


@pytest.mark.parametrize(("ranks", "batch_size"), [(Two(CPU), 16), (ALONE, 64)])
def test_the_passes_that_are_measured_are_those_of_the_plan(
    make_task, tmp_path, monkeypatch, ranks, batch_size
):
    monkeypatch.setattr("pipeline.training.race.SHARE", 10.0)
    monkeypatch.setattr("pipeline.training.execution._has_compiler", lambda: True)
    compiled = list[int]()
    monkeypatch.setattr(
        "pipeline.training.execution._compiled",
        lambda model: lambda batch: (compiled.append(len(batch)), model(batch))[1],
    )
    monkeypatch.setattr("pipeline.training.probe._check", lambda *_: None)
    monkeypatch.setattr("pipeline.training.fit._epochs", lambda *_: [])
    task = make_task(epochs=1, memory_format="auto", execution="compiled", batch_size=batch_size)
    with reproducible(CPU), hold(tmp_path / "key") as checkpoints:
        fit(task, checkpoints, plans=tmp_path / "plans", ranks=ranks)
    assert set(compiled) == {8}


def with_graphs(folder: Path) -> None:
    """Have the checkpoint say that a GPU's graphs made its epochs."""
    with hold(folder) as checkpoints:
        found = checkpoints.load()
        for path in folder.glob("*.safetensors"):
            path.unlink()
        plan = found.state["plan"] | {"execution": "cuda_graphs"}
        checkpoints.save(replace(found, state=dict(found.state) | {"plan": plan}))


def test_a_run_of_graphs_goes_on_without_the_gpu(make_task, tmp_path, caplog):
    task = make_task(epochs=2, execution="auto")
    undisturbed = run(task, tmp_path / "undisturbed")
    with ended_after(1):
        run(task, tmp_path / "key")
    with_graphs(tmp_path / "key")
    with caplog.at_level("WARNING", logger="pipeline"):
        resumed = run(task, tmp_path / "key")
    assert "cuda_graphs, which needs a GPU" in caplog.text
    assert resumed.plan.execution == "eager"
    assert_same_bits(undisturbed, resumed)


def test_a_finished_run_of_graphs_is_taken_over_as_it_was_without_the_gpu(make_task, tmp_path):
    task = make_task(epochs=1, execution="auto")
    first = run(task, tmp_path / "key")
    with_graphs(tmp_path / "key")
    taken_over = run(task, tmp_path / "key")
    assert taken_over.plan.execution == "cuda_graphs"
    assert_same_bits(first, taken_over)


def test_a_run_that_is_to_use_graphs_does_not_go_on_without_the_gpu(make_task, tmp_path):
    with ended_after(1):
        run(make_task(epochs=2), tmp_path / "key")
    with_graphs(tmp_path / "key")
    with pytest.raises(ConfigurationError, match=r"execution: cuda_graphs needs a GPU.* or eager"):
        run(make_task(epochs=2, execution="cuda_graphs"), tmp_path / "key")


def test_a_long_enough_run_measures_its_plan_and_pins_it(make_task, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.training.race.SHARE", 10.0)
    monkeypatch.setattr("pipeline.training.autotune.has_bfloat16", lambda _: True)
    task = make_task(epochs=1, precision="auto")
    first = run(task, tmp_path / "key")
    (pinned,) = (tmp_path / "plans").iterdir()
    values = json.loads(pinned.read_text(encoding="utf-8"))
    assert values["model"] == "small_cnn"
    assert values["images"] == 16
    assert first.plan.precision in (values["first"]["precision"], values["other"]["precision"])
    explicit = run(make_task(epochs=1, precision=first.plan.precision), tmp_path / "explicit")
    assert_same_bits(first, explicit)


def test_a_training_too_short_to_measure_takes_what_another_has_measured(
    make_task, tmp_path, monkeypatch
):
    monkeypatch.setattr("pipeline.training.autotune.has_bfloat16", lambda _: True)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.training.race.SHARE", 10.0)
        run(make_task(epochs=4, precision="auto"), tmp_path / "long")
    (pinned,) = (tmp_path / "plans").iterdir()
    values = json.loads(pinned.read_text(encoding="utf-8"))
    values["seconds"] = {"first": [2.0, 2.0], "other": [1.0, 1.0]}
    pinned.write_text(json.dumps(values), encoding="utf-8")
    short = run(make_task(epochs=1, precision="auto"), tmp_path / "short")
    assert short.plan.precision == values["other"]["precision"] == "bfloat16"
    assert list((tmp_path / "plans").iterdir()) == [pinned]


def test_a_profile_is_logged_and_changes_nothing(make_task, tmp_path, caplog):
    task = make_task(epochs=2, profile=True)
    with caplog.at_level("INFO", logger="pipeline"):
        profiled = run(task, tmp_path / "key")
    for part in ("take", "augment", "forward", "loss", "backward", "update", "the rest", "step"):
        assert re.search(rf"^  {part} +[\d.]+ ms +[\d.]+ %$", caplog.text, re.MULTILINE)
    assert "images per second" in caplog.text
    assert_same_bits(profiled, run(make_task(epochs=2), tmp_path / "other"))
    caplog.clear()
    with caplog.at_level("INFO", logger="pipeline"):
        run(task, tmp_path / "key")
    assert "no step to profile" in caplog.text


def test_divergence_stops_the_run_and_saves_nothing_that_is_not_finite(make_task, tmp_path):
    with pytest.raises(PipelineError, match=r"not finite.*images/\d{4}\.png"):
        run(make_task(lr=1e30, momentum=0.0, gradient_clip=None), tmp_path / "key")
    folder = CheckpointFolder(tmp_path / "key")
    kept = folder.load()
    assert kept is None or all(tensor.isfinite().all() for tensor in kept.tensors.values())


TRAINER = """
import sys
from pathlib import Path
import torch
from pipeline.data.pack import Packed
from pipeline.params import load
from pipeline.training.checkpoint import hold
from pipeline.training import fit as module
from pipeline.training.distributed import ALONE, Ranks
from pipeline.training.environment import reproducible
from pipeline.training.fit import fit
from pipeline.training.task import Task
from pipeline.vision.augmentation import build_policy
module.SAVE_EVERY = 0.0
root, folder = map(Path, sys.argv[1:])
params = load(root / "params.yaml")
task = Task(
    "tiny", params.variant("tiny"), device=torch.device("cpu"),
    policy=build_policy(params.augment.policy, where="augment.policy"),
    packed=Packed.load(root / "artifacts" / "packed"),
)
with reproducible(task.device), hold(folder) as checkpoints:
    fit(task, checkpoints, plans=folder.parent / "plans")
"""


def test_a_killed_process_goes_on_to_the_same_bits(make_task, workspace, tmp_path):
    task = make_task(epochs=20)
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINER, str(workspace.root), str(tmp_path / "killed")],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    journal = tmp_path / "killed" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while len(read(journal)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert 3 <= len(read(journal)) < 20
    resumed = run(task, tmp_path / "killed")
    assert_same_bits(run(task, tmp_path / "undisturbed"), resumed)
    assert [entry.step for entry in read(journal)] == list(range(1, 21))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_trains_as_the_cpu_does(make_task, tmp_path, precision):
    settings = {"epochs": 8, "precision": precision, "architecture": {"width": 8}}
    on_cpu = run(make_task(**settings), tmp_path / "cpu")
    on_gpu = run(make_task(device="cuda", **settings), tmp_path / "gpu")
    again = run(make_task(device="cuda", **settings), tmp_path / "again")
    assert_same_bits(on_gpu, again)
    tolerance = 0.01 if precision == "float32" else 0.1
    assert on_gpu.history[0].train_loss == pytest.approx(
        on_cpu.history[0].train_loss, rel=tolerance
    )
    for fitted in (on_cpu, on_gpu):
        assert max(epoch.val_balanced_accuracy for epoch in fitted.history) > 0.9
