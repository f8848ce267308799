"""Servers that stop answering, or die, in the middle of a training: it does not mind."""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import time

import psutil
import pytest
from mlflow import MlflowClient

from pipeline.journal import read
from tests.mlflow_store import ServedProject

from .conftest import EPOCHS, SETTINGS, Training, end, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

AWAY = 60.0
"""Seconds for which the tracking server does not answer, before it is killed."""
LONG = {"epochs": 400, "architecture": {"width": 32}}
"""Of a training that lasts longer than all that is done to its server."""


def epochs_of(training: Training) -> list[float]:
    """When each epoch was journaled, in seconds."""
    journals = list(training.root.glob("checkpoints/*/journal.jsonl"))
    return [entry.time_ms / 1000 for entry in read(journals[0])] if journals else []


def pace(ends: list[float]) -> float:
    """Seconds an epoch, from when they ended."""
    return statistics.median(b - a for a, b in itertools.pairwise(ends))


def test_a_tracking_server_that_stops_and_dies_has_every_row_once(
    prepared, tmp_path, params_text, record_property
):
    prepared.project.edit_params(variants={"first": SETTINGS | LONG})
    server = ServedProject.make(tmp_path / "served", params_text)
    environment = {"MLFLOW_TRACKING_URI": server.address, "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    stage = ("-m", "pipeline", "train", "first")
    client = MlflowClient(server.address)

    process = server.start()
    trainer = prepared.start(*stage, **environment)
    wait_for(lambda: trainer.poll() is not None or client.search_runs(["1"]), 120)
    assert trainer.poll() is None, end(trainer)
    answering = len(epochs_of(prepared))
    wait_for(lambda: len(epochs_of(prepared)) >= answering + 40, 120)

    os.killpg(process.pid, signal.SIGSTOP)
    stopped_at, stopped = time.monotonic(), len(epochs_of(prepared))
    wait_for(lambda: time.monotonic() - stopped_at > AWAY / 2, AWAY)
    until = epochs_of(prepared)
    trainer.kill()
    end(trainer)
    trainer = prepared.start(*stage, **environment)
    wait_for(lambda: time.monotonic() - stopped_at > AWAY, AWAY)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert trainer.poll() is None, "it ended too soon to show anything"

    ratio = pace(until[stopped:]) / pace(until[answering:stopped])
    record_property("pace while the server does not answer, over the pace before", ratio)
    assert ratio < 1.25  # 1.05 is meant; other tests may run beside this one

    with server.served():
        assert trainer.wait(timeout=300) == 0
        end(trainer)
        prepared.project.run("python", "-m", "pipeline", "sync", **environment)
        (run,) = client.search_runs(["1"])
        for metric in ("val_loss", "lr"):
            history = client.get_metric_history(run.info.run_id, metric)
            assert sorted(row.step for row in history) == list(range(1, LONG["epochs"] + 1))
        journaled = [round(1000 * at) for at in epochs_of(prepared)]
        assert sorted(row.timestamp for row in history) == journaled


def test_a_prefect_server_that_dies_does_not_end_the_training(training, undisturbed):
    flow = training.start("-m", "flows.training")
    wait_for(lambda: len(training.checkpoints()) >= 3, 240)
    servers = training.processes("uvicorn --factory prefect")
    assert servers
    assert training.trainers()
    for server in servers:
        server.kill()
    psutil.wait_procs(servers, timeout=10)
    wait_for(lambda: len(training.checkpoints()) == EPOCHS, 120)
    assert training.checkpoints() == undisturbed.checkpoints()
    wait_for(lambda: not training.trainers(), 60)
    assert training.weights() == undisturbed.weights()
    assert flow.wait(timeout=300) in {0, 1}
    end(flow)
    assert not training.processes()
