"""Runs made from outputs, completed, and linked."""

from __future__ import annotations

import errno
import logging

import pytest
import yaml

from pipeline.journal import Journal
from pipeline.release.sync import sync, sync_variant
from pipeline.tracking import PARENT_RUN, StoreAway, open_store, start_parent
from pipeline.tracking.flow_run import linked_variants
from pipeline.tracking.runs import create_run, find_runs
from pipeline.vision.card import ModelCard
from tests.mlflow_store import refusing


def snapshot(project):
    """All that the store holds of the project's runs."""
    store = open_store(project.workspace)
    return {
        run.info.run_id: (
            run.info.status,
            run.data.tags,
            {
                key: [
                    (m.step, m.value, m.timestamp)
                    for m in store.client.get_metric_history(run.info.run_id, key)
                ]
                for key in run.data.metrics
            },
            run.data.params,
        )
        for run in store.client.search_runs([store.experiment_id])
    }


def test_an_empty_store_gets_its_runs_from_the_outputs_and_a_second_sync_changes_nothing(project):
    links = sync(project.workspace, project.params)
    assert [link.variant for link in links] == ["good", "weak"]
    store = open_store(project.workspace)
    run = store.client.get_run(links[0].run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["weights_sha256"] == project.weights("good")
    assert run.data.params["model"] == "small_cnn"
    losses = store.client.get_metric_history(links[0].run_id, "val_loss")
    assert sorted((row.step, row.value) for row in losses) == [
        (1, 1.0),
        (2, 0.5),
        (3, pytest.approx(1 / 3)),
    ]
    assert {"test_accuracy", "test_accuracy_low", "test_accuracy_high", "best_val_auroc"} <= set(
        run.data.metrics
    )
    paths = {file.path for file in store.client.list_artifacts(links[0].run_id, "report")}
    assert "report/report.html" in paths
    assert any(path.endswith(".png") for path in paths)
    files = project.workspace.mlflow / "artifacts"
    assert not list(files.rglob("*.safetensors"))  # DVC keeps those; the registry has the winner's

    before = snapshot(project)
    assert sync(project.workspace, project.params) == links
    assert snapshot(project) == before


def test_the_journal_gives_a_run_its_times(project):
    key = ModelCard.read(project.workspace.model("good")).training_key
    journal = Journal(project.workspace.checkpoints / key / "journal.jsonl")
    journal.append(1, {"val_loss": 0.7, "system/cpu_utilization_percentage": 9.0}, time_ms=1234)
    link = sync_variant(project.workspace, project.params, "good")
    store = open_store(project.workspace)
    (row,) = store.client.get_metric_history(link.run_id, "val_loss")
    assert (row.timestamp, row.value) == (1234, 0.7)


def test_a_run_that_lost_its_end_is_completed(project):
    workspace = project.workspace
    store = open_store(workspace)
    key = ModelCard.read(workspace.model("good")).training_key
    tags = {"variant": "good", "training_key": key}
    cut = create_run(workspace, store, "good", command="train good", tags=tags)
    store.client.log_metric(cut.info.run_id, "val_loss", 1.0, step=1)
    link = sync_variant(workspace, project.params, "good")
    assert link.run_id == cut.info.run_id
    run = store.client.get_run(link.run_id)
    assert run.info.status == "FINISHED"
    assert len(store.client.get_metric_history(link.run_id, "val_loss")) == 3


def test_settings_are_those_of_the_training_not_of_a_newer_params_yaml(project):
    train = {"lr": 0.5, "epochs": 3}
    locked = {"train": train, "variants.good": {"lr": 0.25}, "augment.policy": {"flip": {"p": 1}}}
    lock = {"stages": {"train@good": {"params": {"params.yaml": locked}}}}
    (project.workspace.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    link = sync_variant(project.workspace, project.params, "good")
    run = open_store(project.workspace).client.get_run(link.run_id)
    assert run.data.params == {"lr": "0.25", "epochs": "3", "policy.flip.p": "1"}


def test_a_parent_is_linked_to_what_it_trained_and_to_what_was_there(project, monkeypatch):
    workspace = project.workspace
    first, second = start_parent(workspace, "first"), start_parent(workspace, "second")
    store = open_store(workspace)
    monkeypatch.setenv(PARENT_RUN, first)
    tags = {"variant": "good", "weights_sha256": project.weights("good")}
    trained = create_run(workspace, store, "good", command="train good", tags=tags)
    (link, _) = sync(workspace, project.params)
    assert (link.run_id, link.origin) == (trained.info.run_id, "trained in this run")

    monkeypatch.setenv(PARENT_RUN, second)
    (link, other) = sync(workspace, project.params)
    assert link.origin == f"unchanged: produced by run {first}"
    linked = store.client.get_run(second).data.tags
    assert linked_variants(linked) == {"good": link.run_id, "weak": other.run_id}
    assert linked["variant.good.origin"] == link.origin


def test_an_evaluation_of_earlier_weights_is_not_logged(project):
    weights = project.workspace.model("good") / "weights.safetensors"
    other = project.workspace.model("weak") / "weights.safetensors"
    weights.write_bytes(other.read_bytes())
    link = sync_variant(project.workspace, project.params, "good")
    run = open_store(project.workspace).client.get_run(link.run_id)
    assert "test_accuracy" not in run.data.metrics


def test_a_variant_that_is_not_trained_yet_is_passed_over(project, caplog):
    weights = project.workspace.model("weak") / "weights.safetensors"
    weights.unlink()
    with caplog.at_level(logging.INFO):
        assert [link.variant for link in sync(project.workspace, project.params)] == ["good"]
    assert "weak is not trained yet" in caplog.text


def test_a_store_that_is_away_fails_the_command_but_not_a_stage(project, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StoreAway):
        sync(project.workspace, project.params)
    assert sync_variant(project.workspace, project.params, "good") is None
    assert "sync" in caplog.text


def test_a_store_that_refuses_fails_the_command_but_not_a_stage(project, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with refusing(401) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(StoreAway, match="401"):
            sync(project.workspace, project.params)
        assert sync_variant(project.workspace, project.params, "good") is None
    assert "401" in caplog.text
    assert "'python -m pipeline sync' gives good its run later" in caplog.text


def test_artifacts_that_cannot_be_written_do_not_fail_a_stage(project, monkeypatch, caplog):
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/artifacts")

    monkeypatch.setattr("mlflow.tracking.MlflowClient.log_artifacts", refused)
    assert sync_variant(project.workspace, project.params, "good") is None
    assert "Permission denied: '/artifacts'" in caplog.text
    with pytest.raises(StoreAway, match="give yourself the right"):
        sync(project.workspace, project.params)


def test_one_weights_file_under_two_names_has_two_runs(project):
    for name in ("weights.safetensors",):
        source = project.workspace.model("good") / name
        (project.workspace.model("weak") / name).write_bytes(source.read_bytes())
    links = sync(project.workspace, project.params)
    assert len({link.run_id for link in links}) == 2
    store = open_store(project.workspace)
    assert len(find_runs(store, {"weights_sha256": project.weights("good")})) == 2
