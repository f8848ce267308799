"""`make run` and what follows it, on a small project: flow, registry, champion, prediction."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.project import SmallProject, make_small_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FLOW = (sys.executable, "-m", "flows.training")

LOAD_CHAMPION = """
import os, sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/shapes@champion")
image = open(sys.argv[2], "rb").read()
import pandas as pd
table = model.predict(pd.DataFrame({"image": [image, image]}))
print(table.to_json(orient="records"))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallProject, str]:
    """A project after `python -m flows.training`, and what that printed."""
    project = make_small_project(tmp_path_factory.mktemp("run") / "project")
    project.commit("code")
    done = project.run(*FLOW, timeout=500)
    return project, done.stdout + done.stderr


def store(project: SmallProject) -> str:
    return f"sqlite:///{project.root / 'mlflow' / 'mlflow.db'}"


def an_image(project: SmallProject) -> Path:
    return next((project.root / "data" / "images" / "bar").iterdir())


def test_the_run_ends_with_all_a_user_needs_to_go_on(finished):
    _, printed = finished
    for text in ("first", "second", "shapes", "champion", "report.html", "make ui"):
        assert text in printed
    assert "Traceback" not in printed


def test_after_the_run_dvc_has_nothing_to_do(finished):
    project, _ = finished
    assert "Running stage" not in project.dvc("repro").stdout


def test_the_store_shows_a_parent_with_a_run_for_each_variant(finished):
    from mlflow import MlflowClient

    project, _ = finished
    client = MlflowClient(store(project))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments)
    variants = [run for run in runs if run.data.tags.get("variant") in {"first", "second"}]
    assert len(variants) == 2
    parents = {run.data.tags["mlflow.parentRunId"] for run in variants}
    assert len(parents) == 1
    assert client.get_run(parents.pop()).info.status == "FINISHED"
    for run in variants:
        assert {"data_digest", "weights_sha256", "training_key"} <= set(run.data.tags)
        assert len(client.get_metric_history(run.info.run_id, "val_loss")) == 2
        assert "test_balanced_accuracy" in run.data.metrics
        assert any(key.startswith("system/") for key in run.data.metrics)
        files = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert any("report" in name for name in files), files


def test_the_champion_predicts_on_image_bytes_outside_the_project(finished, tmp_path):
    project, _ = finished
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD_CHAMPION, store(project), str(an_image(project))],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    predicted = pd.DataFrame(json.loads(done.stdout.strip().splitlines()[-1]))
    assert set(predicted["label"]) <= {"bar", "disc"}
    assert (predicted[["p_bar", "p_disc"]].sum(axis=1) - 1).abs().max() < 1e-3


def test_predict_labels_a_folder_and_lists_what_it_cannot_read(finished, tmp_path):
    project, _ = finished
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "good.png").write_bytes(an_image(project).read_bytes())
    (folder / "broken.png").write_bytes(b"no image")
    output = tmp_path / "labels.csv"
    project.pipeline("predict", str(folder), "--output", str(output))
    table = pd.read_csv(output).set_index("file")
    table.index = [Path(name).name for name in table.index]
    assert table.loc["good.png", "label"] in {"bar", "disc"}
    assert pd.isna(table.loc["broken.png", "label"])
    assert table.loc["broken.png", "error"]


def test_a_second_run_changes_nothing_and_keeps_the_champion(finished):
    from mlflow import MlflowClient

    project, _ = finished
    client = MlflowClient(store(project))
    before = client.get_model_version_by_alias("shapes", "champion").version
    project.run(*FLOW, timeout=300)
    assert client.get_model_version_by_alias("shapes", "champion").version == before
    assert len(client.search_model_versions("name = 'shapes'")) == 1


def test_rollback_without_an_earlier_champion_says_so(finished):
    project, _ = finished
    done = project.pipeline("rollback", check=False)
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr


def test_two_runs_at_once_one_works_and_the_other_ends_with_75_at_once(finished):
    project, _ = finished
    first = subprocess.Popen(
        FLOW,
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 30
        lock = project.root / ".pipeline" / "lock"
        while not lock.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        seconds = []
        for _ in range(3):
            began = time.monotonic()
            second = project.run(*FLOW, check=False, timeout=30)
            seconds.append(time.monotonic() - began)
            assert second.returncode == 75
            assert "holds the workspace" in second.stderr + second.stdout
            assert "Traceback" not in second.stderr
        assert min(seconds) < 2  # of three, since the first run wants the processors too
    finally:
        os.killpg(first.pid, signal.SIGTERM)
        first.wait(timeout=60)
