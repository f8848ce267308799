"""`mlflow/server.py`: how the server is started, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

import psutil
import pytest

from pipeline.tracking import open_store
from tests.mlflow_store import ServedProject

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path, params_text):
    return ServedProject.make(tmp_path / "a project", params_text)


def test_a_taken_port_is_refused_with_a_word_on_what_to_do():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = subprocess.run(
            [sys.executable, str(PROJECT / "mlflow" / "server.py"), "--port", port],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert port in done.stderr
    assert "flow.ports.mlflow" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_none_is_wrong_usage():
    done = subprocess.run(
        [sys.executable, str(PROJECT / "mlflow" / "server.py"), "--port", "99999"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "1024" in done.stderr


@pytest.mark.slow
def test_the_page_and_the_interface_answer_on_loopback_alone(project):
    store = open_store(project.workspace)
    run = store.client.create_run(store.experiment_id, run_name="seen by the server")
    (project.workspace.root / "picture.txt").write_text("a picture")
    store.client.log_artifact(run.info.run_id, str(project.workspace.root / "picture.txt"))
    with project.served() as server:
        with project.open("/") as page:
            assert b"<title>MLflow</title>" in page.read()
        query = f"/api/2.0/mlflow/runs/get?run_id={run.info.run_id}"
        with project.open(query) as answer:
            assert json.load(answer)["run"]["info"]["run_name"] == "seen by the server"
        with project.open(f"/get-artifact?path=picture.txt&run_uuid={run.info.run_id}") as file:
            assert file.read() == b"a picture"

        with pytest.raises(urllib.error.HTTPError) as refused:
            project.open("/api/2.0/mlflow/experiments/search", Host="attacker.example.org")
        assert refused.value.code == 403

        tree = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        listening = {
            connection.laddr
            for process in tree
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {("127.0.0.1", project.port)}

        stop(server, lambda: server.send_signal(signal.SIGTERM))


@pytest.mark.slow
def test_ctrl_c_ends_it_and_leaves_no_process(project):
    server = project.start()
    # Ctrl-C reaches every process of the terminal.
    words = stop(server, lambda: os.killpg(server.pid, signal.SIGINT))
    assert project.address in words


def stop(server, ask):
    """End ``server`` by ``ask``; returns what it printed."""
    children = psutil.Process(server.pid).children(recursive=True)
    assert children
    start = time.monotonic()
    ask()
    _, words = server.communicate(timeout=20)
    assert server.returncode == 0, words
    assert time.monotonic() - start < 12
    assert "Traceback" not in words
    assert not [child for child in children if child.is_running()]
    return words
