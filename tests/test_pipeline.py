"""The whole path, for real: ingest, DVC, MLflow and experiments on a small project."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.project import SmallProject, make_small_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    """A project whose data is ingested, whose stages all ran, and which is committed."""
    project = make_small_project(tmp_path_factory.mktemp("built") / "project")
    project.pipeline("ingest")
    project.commit("data")
    project.dvc("repro")
    project.commit("first results")
    return project


@pytest.fixture
def changed(built: SmallProject):
    """The built project, to be changed by one test and put back as it was afterwards."""
    yield built
    built.run("git", "checkout", "-q", "--force", "HEAD")
    built.dvc("checkout", "--quiet", "--force")


def stages_run(output: str) -> list[str]:
    prefix = "Running stage '"
    return [line[len(prefix) : -2] for line in output.splitlines() if line.startswith(prefix)]


def runs_of(project: SmallProject, variant: str) -> int:
    with sqlite3.connect(project.root / "mlflow" / "mlflow.db") as store:
        query = "select count(*) from runs where name = ? and lifecycle_stage = 'active'"
        return int(store.execute(query, (variant,)).fetchone()[0])


def test_every_stage_leaves_its_outputs(built):
    root = built.root
    leaderboard = pd.read_csv(root / "artifacts" / "leaderboard.csv")
    assert set(leaderboard["variant"]) == {"first", "second"}
    for variant in ("first", "second"):
        assert (root / "artifacts" / "models" / variant / "weights.safetensors").is_file()
        assert (root / "artifacts" / "reports" / variant / "report.html").is_file()
        assert (root / "artifacts" / "index" / variant / "edges.npy").is_file()
        assert runs_of(built, variant) == 1
    assert (root / "artifacts" / "augmentation.png").is_file()


def test_a_second_repro_does_nothing_and_does_it_fast(built):
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        done = built.dvc("repro")
        seconds.append(time.monotonic() - start)
        assert stages_run(done.stdout) == []
    assert min(seconds) < 2.0 * 1.5, seconds  # two seconds, and half more for a busy machine


def test_a_learning_rate_retrains_its_variant_alone_and_dvc_shows_what_it_changed(changed):
    changed.edit_params(variants__second__lr=0.015)
    done = changed.dvc("repro")
    assert set(stages_run(done.stdout)) == {
        *("train@second", "evaluate@second", "index@second", "compare")
    }

    params = json.loads(changed.dvc("params", "diff", "--json").stdout)
    assert params["params.yaml"]["variants.second.lr"]["new"] == 0.015
    metrics = json.loads(changed.dvc("metrics", "show", "--json").stdout)
    measured = metrics[""]["data"]["artifacts/evaluation/second/metrics.json"]["data"]
    assert 0 <= measured["val"]["balanced_accuracy"]["value"] <= 1
    difference = json.loads(changed.dvc("metrics", "diff", "--json").stdout)
    assert set(difference) == {"artifacts/evaluation/second/metrics.json"}
    changed.dvc("plots", "show", "--out", "plots")
    page = (changed.root / "plots" / "index.html").read_text(encoding="utf-8")
    assert "second" in page
    shutil.rmtree(changed.root / "plots")


def test_a_variant_removed_from_params_leaves_the_leaderboard(changed):
    changed.edit_params(variants__second=...)
    done = changed.dvc("repro")
    assert stages_run(done.stdout) == ["compare"]
    leaderboard = pd.read_csv(changed.root / "artifacts" / "leaderboard.csv")
    assert list(leaderboard["variant"]) == ["first"]


def test_a_variant_added_to_params_is_trained_and_ranked(changed):
    added = yaml.safe_load((changed.root / "params.yaml").read_text())["variants"]["first"]
    changed.edit_params(variants__third=added | {"seed": 2})
    done = changed.dvc("repro")
    assert set(stages_run(done.stdout)) == {
        *("train@third", "evaluate@third", "index@third", "compare")
    }


def test_an_experiment_in_a_copy_reaches_the_same_mlflow_store(changed):
    before = runs_of(changed, "first")
    changed.dvc("exp", "run", "--temp", "--name", "slower", "-S", "variants.first.lr=0.005")
    assert runs_of(changed, "first") == before + 1
    shown = json.loads(changed.dvc("exp", "show", "--json").stdout)
    assert "slower" in json.dumps(shown)


def test_a_queued_experiment_reaches_the_same_mlflow_store(changed):
    before = runs_of(changed, "first")
    changed.dvc("exp", "run", "--queue", "--name", "queued", "-S", "variants.first.lr=0.006")
    changed.dvc("queue", "start")
    deadline = time.monotonic() + 200
    while "Success" not in (status := changed.dvc("queue", "status").stdout):
        assert time.monotonic() < deadline, status
        assert "Failed" not in status, changed.dvc("queue", "logs", "queued").stdout
        time.sleep(2)
    assert runs_of(changed, "first") == before + 1


def test_results_travel_through_a_remote(built, tmp_path):
    remote, clone = tmp_path / "remote", SmallProject(tmp_path / "clone")
    built.dvc("remote", "add", "--force", "--default", "local", str(remote))
    built.commit("a remote")
    built.dvc("push", "--quiet")
    built.run("git", "clone", "-q", str(built.root), str(clone.root))
    clone.dvc("pull", "--quiet")
    assert stages_run(clone.dvc("repro").stdout) == []
    assert (clone.root / "data" / "classes.json").is_file()
    original = built.root / "artifacts" / "models" / "first" / "weights.safetensors"
    pulled = clone.root / "artifacts" / "models" / "first" / "weights.safetensors"
    assert pulled.read_bytes() == original.read_bytes()

    # Outputs that came from elsewhere have no run in this store yet: sync makes it from them.
    clone.pipeline("sync")
    assert runs_of(clone, "first") == 1


def test_the_same_settings_give_the_same_bits(built, tmp_path):
    twin = SmallProject(tmp_path / "twin")
    built.run("git", "clone", "-q", str(built.root), str(twin.root))
    twin.pipeline("data", "restore")
    twin.dvc("repro", "train@first")
    original = built.root / "artifacts" / "models" / "first" / "weights.safetensors"
    again = twin.root / "artifacts" / "models" / "first" / "weights.safetensors"
    assert again.read_bytes() == original.read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation__min_images_per_class": 4000}, "images_per_class: a class has too few"),
        ({"validation__min_side": 1000}, "120 of 120 images fail"),
        ({"split__group": "module"}, "module"),
    ],
)
def test_data_that_breaks_a_rule_stops_the_pipeline(changed, changes, message):
    changed.edit_params(**changes)
    done = changed.dvc("repro", "split", check=False)
    assert done.returncode != 0
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    alone = changed.pipeline("validate", check=False)
    assert alone.returncode in {2, 3}


def test_a_file_that_is_no_image_is_set_aside_and_the_rest_goes_on(tmp_path):
    project = make_small_project(tmp_path / "project")
    source = Path(f"{project.root}-source")
    (source / "bar" / "broken.png").write_bytes(b"this is no image")
    project.edit_params(validation__quarantine_budget=0.1)
    project.pipeline("ingest")
    done = project.dvc("repro", "split")
    quarantined = pd.read_csv(project.root / "artifacts" / "quarantine.csv")
    assert list(quarantined["file_name"]) == ["images/bar/broken.png"]
    assert len(pd.read_parquet(project.root / "artifacts" / "accepted.parquet")) == 120
    assert "Traceback" not in done.stderr
