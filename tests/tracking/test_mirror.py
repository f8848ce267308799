"""A training's run, written beside the training."""

from __future__ import annotations

import importlib
import logging
import time

import pytest
from mlflow import MlflowClient

from pipeline.journal import Journal
from pipeline.tracking import PARENT_RUN, mirror
from pipeline.tracking.runs import find_runs
from tests.mlflow_store import ServedProject

PARAMS = {"lr": 0.05, "policy": {"flip": {"horizontal": 0.5}}, "gradient_clip": None}
DIGEST = "d" * 64
WEIGHTS = "e" * 64
MODULE = importlib.import_module("pipeline.tracking.mirror")  # the function has its name too


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(MODULE, "POLL", 0.05)
    monkeypatch.setattr(MODULE, "PATIENCE", 0.1)
    monkeypatch.setattr(MODULE, "LONGEST_PAUSE", 0.5)


@pytest.fixture
def training(workspace, key, tmp_path):
    """Enters the mirror of a training with the test's own key."""
    journal = tmp_path / "journal.jsonl"

    def start():
        return mirror(
            workspace,
            journal,
            run_name="resnet18",
            training_key=key,
            params=PARAMS,
            tags={"variant": "resnet18", "data_digest": DIGEST},
        )

    start.journal = journal
    return start


def only_run(store, key):
    (run,) = find_runs(store, {"training_key": key})
    return run


def curve(store, run, metric):
    rows = store.client.get_metric_history(run.info.run_id, metric)
    return [(row.step, row.value, row.timestamp) for row in sorted(rows, key=lambda r: r.step)]


def eventually(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_training_leaves_a_run_with_its_curves_settings_and_data(training, store, key):
    with training() as run:
        journal = Journal(training.journal)
        for epoch in (1, 2, 3):
            metrics = {"val_loss": 1 / epoch, "system/cpu_utilization_percentage": 50.0}
            journal.append(epoch, metrics, time_ms=1_700_000_000_000 + epoch)
        run.finish(WEIGHTS)
    found = only_run(store, key)
    assert found.info.run_name == "resnet18"
    assert found.info.status == "FINISHED"
    assert found.info.start_time == 1_700_000_000_001  # not when MLflow was first reached
    assert curve(store, found, "val_loss") == [
        (1, 1.0, 1_700_000_000_001),
        (2, 0.5, 1_700_000_000_002),
        (3, pytest.approx(1 / 3), 1_700_000_000_003),
    ]
    assert "system/cpu_utilization_percentage" in found.data.metrics
    assert found.data.params == {
        "lr": "0.05",
        "policy.flip.horizontal": "0.5",
        "gradient_clip": "None",
    }
    assert found.data.tags["weights_sha256"] == WEIGHTS
    assert found.data.tags["variant"] == "resnet18"
    assert len(found.data.tags["params_sha256"]) == 64
    (data,) = found.inputs.dataset_inputs
    assert DIGEST.startswith(data.dataset.digest)


def test_rows_arrive_while_the_training_goes_on(training, store, key):
    with training() as run:
        Journal(training.journal).append(1, {"val_loss": 0.5})
        eventually(lambda: find_runs(store, {"training_key": key}))
        eventually(lambda: only_run(store, key).data.metrics)
        assert only_run(store, key).info.status == "RUNNING"
        run.finish(WEIGHTS)


def test_a_resumed_training_goes_on_in_its_run_and_writes_no_row_twice(training, store, key):
    def interrupted() -> None:
        with training():
            Journal(training.journal).append(1, {"val_loss": 0.5}, time_ms=1)
            eventually(lambda: find_runs(store, {"training_key": key}))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    first = only_run(store, key)
    assert first.info.status == "KILLED"
    with training() as run:
        journal = Journal(training.journal)
        journal.append(1, {"val_loss": 0.5}, time_ms=3)  # the journal has it
        journal.append(2, {"val_loss": 0.4}, time_ms=4)
        run.finish(WEIGHTS)
    again = only_run(store, key)
    assert again.info.run_id == first.info.run_id
    assert again.info.status == "FINISHED"
    assert curve(store, again, "val_loss") == [(1, 0.5, 1), (2, 0.4, 4)]


def test_the_same_training_from_scratch_gets_a_run_of_its_own(training, store, key):
    for time_ms in (1, 2):
        training.journal.unlink(missing_ok=True)
        with training() as run:
            Journal(training.journal).append(1, {"val_loss": 0.5}, time_ms=time_ms)
            run.finish(WEIGHTS)
    runs = find_runs(store, {"training_key": key})
    assert [len(curve(store, run, "val_loss")) for run in runs] == [1, 1]


def test_a_training_that_fails_leaves_a_failed_run_and_its_error(training, store, key):
    def failing() -> None:
        with training():
            Journal(training.journal).append(1, {"val_loss": 0.5})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    found = only_run(store, key)
    assert found.info.status == "FAILED"
    assert "weights_sha256" not in found.data.tags


def test_a_training_that_fails_before_its_first_epoch_leaves_no_run(training, store, key):
    with pytest.raises(ZeroDivisionError), training():
        raise ZeroDivisionError
    assert find_runs(store, {"training_key": key}) == []


def test_many_rows_go_in_batches(training, store, key):
    with training() as run:
        metrics = {f"metric_{i}": float(i) for i in range(1300)}
        Journal(training.journal).append(1, metrics)
        run.finish(WEIGHTS)
    assert only_run(store, key).data.metrics == metrics


def test_the_run_is_a_child_of_the_flow_that_runs_now(training, store, key, monkeypatch):
    for parent in ("a" * 32, "b" * 32):
        monkeypatch.setenv(PARENT_RUN, parent)
        with training() as run:
            Journal(training.journal).append(1, {"val_loss": 0.5}, time_ms=1)
            run.finish(WEIGHTS)
        assert only_run(store, key).data.tags["mlflow.parentRunId"] == parent


def test_without_mlflow_a_training_says_so_once_and_goes_on(training, monkeypatch, caplog):
    monkeypatch.setattr(MODULE, "available", lambda: False)
    with caplog.at_level(logging.INFO), training() as run:
        run.finish(WEIGHTS)
    assert len(caplog.records) == 1
    assert "not installed" in caplog.text


def test_a_store_that_is_away_costs_a_line_and_no_time(training, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.INFO), training() as run:
        start = time.monotonic()
        Journal(training.journal).append(1, {"val_loss": 0.5})
        assert time.monotonic() - start < 2
        eventually(lambda: caplog.records)
        time.sleep(1.5)  # several more attempts
        start = time.monotonic()
        run.finish(WEIGHTS)
    assert time.monotonic() - start < 5
    assert len(caplog.records) == 1
    assert "http://127.0.0.1:9" in caplog.text
    assert "sync" in caplog.text


@pytest.mark.slow
def test_a_server_that_goes_and_comes_back_has_every_row_once(
    training, key, tmp_path, params_text, monkeypatch, caplog
):
    project = ServedProject.make(tmp_path / "served", params_text)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", project.address)
    with caplog.at_level(logging.INFO), training() as run:
        journal = Journal(training.journal)
        with project.served():
            journal.append(1, {"val_loss": 0.5})
            client = MlflowClient(project.address)
            eventually(lambda: metrics_of(client, key))
        journal.append(2, {"val_loss": 0.4})
        eventually(lambda: "does not touch the training" in caplog.text)
        journal.append(3, {"val_loss": 0.3})
        with project.served():
            eventually(lambda: "answers again" in caplog.text)
            journal.append(4, {"val_loss": 0.2})
            run.finish(WEIGHTS)
            eventually(lambda: metrics_of(client, key).get("val_loss") == 0.2)
            (found,) = client.search_runs(["1"], f"tags.training_key = '{key}'")
            rows = client.get_metric_history(found.info.run_id, "val_loss")
            assert sorted((row.step, row.value) for row in rows) == [
                (1, 0.5),
                (2, 0.4),
                (3, 0.3),
                (4, 0.2),
            ]


def metrics_of(client, key):
    runs = client.search_runs(["1"], f"tags.training_key = '{key}'")
    return runs[0].data.metrics if runs else {}
