"""The parent run of a flow."""

from __future__ import annotations

import pytest

from pipeline.artifacts import write_json
from pipeline.tracking import finish_parent, start_parent
from pipeline.tracking.flow_run import VARIANT_TAG, linked_variants
from pipeline.workspace import Workspace

INTERVAL = {"value": 0.8, "low": 0.7, "high": 0.9}


@pytest.fixture
def results(workspace: Workspace) -> Workspace:
    (workspace.root / "dvc.lock").write_text("stages: {}\n")
    workspace.data_dvc.write_text("outs: []\n")
    workspace.artifacts.mkdir(exist_ok=True)
    workspace.preview.write_bytes(b"a picture")
    workspace.leaderboard.write_text("variant,rank\nresnet18,1\nsmall_cnn,2\n")
    write_json(workspace.selection, {"challenger": "resnet18"})
    write_json(
        workspace.evaluation("resnet18") / "metrics.json",
        {
            "val": {"accuracy": INTERVAL},
            "test": {"accuracy": INTERVAL, "auroc": dict.fromkeys(INTERVAL)},
            "per_class": {"test": {"not ok!": {"precision": INTERVAL, "recall": INTERVAL}}},
            "calibration": {"test": {"ece": INTERVAL}},
        },
    )
    return workspace


def files_of(store, run_id, folder=None):
    return {file.path for file in store.client.list_artifacts(run_id, folder)}


def test_a_finished_flow_holds_what_brings_it_back_and_the_winners_metrics(results, store):
    run_id = start_parent(results, "training")
    assert store.client.get_run(run_id).info.status == "RUNNING"
    for variant in ("resnet18", "small_cnn"):
        for what, value in (("run_id", "c" * 32), ("origin", "trained in this run")):
            store.client.set_tag(run_id, VARIANT_TAG.format(name=variant, what=what), value)
    finish_parent(results, run_id, status="FINISHED")
    run = store.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "training"
    inputs = {"inputs/params.yaml", "inputs/dvc.lock", "inputs/data.dvc"}
    assert files_of(store, run_id, "inputs") == inputs
    assert {"leaderboard.csv", "augmentation.png"} <= files_of(store, run_id)
    assert run.data.metrics["test_accuracy_low"] == 0.7
    assert run.data.metrics["best_val_accuracy"] == 0.8
    assert run.data.metrics["test_ece"] == 0.8
    assert run.data.metrics["test_recall_not ok_"] == 0.8
    assert "test_auroc" not in run.data.metrics  # undefined
    note = run.data.tags["mlflow.note.content"]
    assert f"| resnet18 | [cccccccc](#/experiments/{store.experiment_id}/runs/{'c' * 32}?" in note
    assert list(linked_variants(run.data.tags)) == ["resnet18", "small_cnn"]


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_flow_that_failed_shows_no_results_of_an_earlier_one(results, store, status):
    run_id = start_parent(results, "training")
    finish_parent(results, run_id, status=status)
    run = store.client.get_run(run_id)
    assert run.info.status == status
    assert run.data.metrics == {}
    assert files_of(store, run_id) == {"inputs"}
