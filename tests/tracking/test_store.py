"""Opening the store."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from pipeline.tracking import StoreAway, available, client, open_store, store_uri
from pipeline.tracking.store import answering
from pipeline.workspace import Workspace
from tests.mlflow_store import give_store, refusing

OPEN = """
import sys
from pathlib import Path
from pipeline.tracking import open_store
from pipeline.workspace import Workspace
store = open_store(Workspace(Path(sys.argv[1])))
store.client.create_run(store.experiment_id, run_name=sys.argv[2])
"""


@pytest.fixture
def empty(tmp_path: Path, params_text: str) -> Workspace:
    (tmp_path / "params.yaml").write_text(params_text, encoding="utf-8")
    return Workspace(tmp_path)


def test_the_address_is_absolute_and_the_same_for_an_experiment_in_a_copy(tmp_path):
    copy = Workspace(tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmpabc")
    assert store_uri(copy) == store_uri(Workspace(tmp_path))
    assert store_uri(copy) == f"sqlite:///{tmp_path}/mlflow/mlflow.db"


def test_the_environment_may_name_another_store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org:5000")
    assert store_uri(Workspace(tmp_path)) == "http://example.org:5000"


def test_a_folder_called_mlflow_is_not_the_library(tmp_path, monkeypatch):
    (tmp_path / "mlflow").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in [name for name in sys.modules if name == "mlflow" or name.startswith("mlflow.")]:
        monkeypatch.delitem(sys.modules, name)
    assert not available()


def test_the_experiment_is_named_after_the_registered_model(workspace, store):
    found = store.client.get_experiment(store.experiment_id)
    assert found.name == "solar-cells"
    assert found.artifact_location == (workspace.mlflow / "artifacts").as_uri()


def test_an_experiment_that_was_deleted_on_the_page_comes_back(empty):
    give_store(empty)
    store = open_store(empty)
    store.client.delete_experiment(store.experiment_id)
    assert open_store(empty).experiment_id == store.experiment_id
    assert client(empty).get_experiment(store.experiment_id).lifecycle_stage == "active"


def test_a_file_that_is_no_database_is_refused_at_once(empty):
    empty.mlflow.mkdir()
    (empty.mlflow / "mlflow.db").write_bytes(b"not a database" * 100)
    start = time.monotonic()
    with pytest.raises(StoreAway, match=r"mlflow\.db.*not a database.*sync"):
        open_store(empty)
    assert time.monotonic() - start < 10


def test_a_server_that_does_not_answer_is_named(empty, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StoreAway, match=r"http://127\.0\.0\.1:9"):
        open_store(empty)


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "MLFLOW_TRACKING_USERNAME"),
        (403, "MLFLOW_TRACKING_USERNAME"),
        (404, "correct MLFLOW_TRACKING_URI"),
        (500, "start its server"),
        (503, "start its server"),
    ],
)
def test_a_server_that_refuses_is_named_and_what_to_do(empty, monkeypatch, status, advice):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with refusing(status) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(
            StoreAway, match=rf"^MLflow at {address}: .*{status}.*; .*{advice}"
        ) as e:
            open_store(empty)
    assert "html" not in str(e.value)


def test_artifacts_that_cannot_be_written_are_a_store_that_cannot_be_used():
    from requests import HTTPError, Response

    refused = Response()
    refused.status_code = 403
    with (
        pytest.raises(StoreAway, match=r"not for you; .*MLFLOW_TRACKING_TOKEN"),
        answering("here"),
    ):
        raise HTTPError("not for you", response=refused)
    with (
        pytest.raises(StoreAway, match=r"MLflow at here: .*'/artifacts'; give yourself"),
        answering("here"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", "/artifacts")


def test_a_wrong_request_and_a_lost_file_are_no_store_that_is_away():
    from mlflow.exceptions import MlflowException

    for error in (
        MlflowException.invalid_parameter_value("no such name"),
        MlflowException("no such run", RESOURCE_DOES_NOT_EXIST),
        FileNotFoundError(errno.ENOENT, "No such file", "report.html"),
        OSError(errno.ENOSPC, "No space left on device", "mlflow"),
    ):
        with pytest.raises(type(error)), answering("here"):
            raise error


@pytest.mark.slow
def test_two_processes_at_once_may_make_the_store(empty):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(empty.root), name],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for process in processes:
        _, words = process.communicate(timeout=120)
        assert process.returncode == 0, words
    store = open_store(empty)
    runs = store.client.search_runs([store.experiment_id])
    assert {run.info.run_name for run in runs} == {"one", "two"}
    left = [path.name for path in empty.mlflow.iterdir()]
    assert sorted(left) == ["mlflow.db", "mlflow.db-lock"]
