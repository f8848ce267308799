"""Killed at any moment, a training goes on to the bits of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import time

import psutil
import pytest

from .conftest import EPOCHS, Training, end, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

KILLS = 20
IN_A_WRITE = 6
"""How many of these hit while a checkpoint is being written."""


def kill_at(training: Training, rng: random.Random, *, writing: bool) -> None:
    """Kill the trainer, or the DVC above it, or both, at a moment of its training."""
    dvc = training.start("-m", "dvc", "repro", "--single-item", "train@first")
    (trainer,) = wait_for(training.trainers)
    saved = rng.randrange(EPOCHS - 5)
    wait_for(lambda: len(training.checkpoints()) >= saved or dvc.poll() is not None)
    if writing:
        folder = next(training.root.glob("checkpoints/*/lock")).parent
        deadline = time.monotonic() + 30
        while not any(name.startswith(".") for name in os.listdir(folder)):  # noqa: PTH208 (fast)
            assert time.monotonic() < deadline
    else:
        time.sleep(rng.uniform(0, 0.3))
    victims = rng.choice([[trainer.pid], [dvc.pid], [dvc.pid, trainer.pid]])
    for pid in victims if not writing else [trainer.pid]:
        os.kill(pid, signal.SIGKILL)
    # Who lost only its parent ends by itself.
    psutil.wait_procs([trainer], timeout=15)
    assert not training.trainers()
    end(dvc)


@pytest.mark.timeout(3600)
def test_killed_at_random_moments_it_ends_in_the_same_bits(training, undisturbed):
    rng = random.Random(4)
    torn, resumed = 0, 0
    for trial in range(KILLS):
        training.forget()
        kill_at(training, rng, writing=trial < IN_A_WRITE)
        torn += len(training.torn())
        resumed += bool(training.checkpoints())
        training.repro()
        # All weights and all that the optimiser remembers, of every epoch.
        assert training.checkpoints() == undisturbed.checkpoints(), f"kill {trial}"
        assert training.weights() == undisturbed.weights()
        assert not training.torn()
    assert torn >= IN_A_WRITE // 2
    assert resumed >= KILLS * 2 // 3


def test_sigterm_ends_it_within_ten_seconds_with_exit_code_143(prepared, undisturbed):
    # With MLflow, whose run has to be ended too.
    stage = prepared.start("-m", "pipeline", "train", "first")
    wait_for(lambda: len(prepared.checkpoints()) >= 3, 120)
    began = time.monotonic()
    stage.send_signal(signal.SIGTERM)
    assert stage.wait(timeout=30) == 143
    assert time.monotonic() - began < 10
    assert not prepared.trainers()
    assert "Traceback" not in end(stage)
    prepared.repro()
    assert prepared.weights() == undisturbed.weights()


def test_a_second_stage_beside_one_that_runs_waits_and_is_busy(training, undisturbed):
    first = training.start("-m", "pipeline", "train", "first")
    wait_for(lambda: len(training.checkpoints()) >= 1, 120)
    (trainer,) = training.trainers()
    trainer.suspend()
    second = training.project.pipeline("train", "first", check=False)
    assert second.returncode == 75
    assert "another process is training exactly this" in second.stderr
    trainer.resume()
    assert first.wait(timeout=120) == 0
    assert training.weights() == undisturbed.weights()
    end(first)


def test_kill_of_the_flow_leaves_no_trainer_and_the_next_run_goes_on(training, undisturbed):
    flow = training.start("-m", "flows.training")
    wait_for(lambda: len(training.checkpoints()) >= 5, 240)
    assert training.trainers()
    os.kill(flow.pid, signal.SIGKILL)
    wait_for(lambda: not training.processes(), 20)
    end(flow)
    before = training.checkpoints()
    assert len(before) < EPOCHS
    training.repro()
    assert training.checkpoints() == undisturbed.checkpoints()
    assert training.weights() == undisturbed.weights()


@pytest.mark.parametrize("victim", [0, 1])
def test_of_several_processes_one_that_is_killed_ends_all_and_they_go_on(training, victim):
    training.project.edit_params(train__processes=2)
    training.repro()
    undisturbed = training.checkpoints(), training.weights()
    training.forget()

    stage = training.start("-m", "pipeline", "train", "first")
    wait_for(lambda: len(training.checkpoints()) >= 8, 120)
    launcher, *ranks = sorted(training.trainers(), key=lambda process: process.pid)
    assert launcher.pid == stage.pid
    assert len(ranks) == 2
    os.kill(ranks[victim].pid, signal.SIGKILL)
    printed = stage.communicate(timeout=60)[0]
    assert stage.returncode == 1
    assert f"process {victim} of the 2 that train together ended by SIGKILL" in printed
    assert "Traceback" not in printed
    assert not training.trainers()

    training.repro()
    assert (training.checkpoints(), training.weights()) == undisturbed
