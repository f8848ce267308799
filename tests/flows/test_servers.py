"""``make ui`` and ``python -m flows.deploy``: real servers, and their end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess

import pytest

from flows import server, settings

from .conftest import TinyProject, end, free_port, wait_for, write

slow = pytest.mark.slow

MLFLOW = '''
"""Stands for mlflow/server.py."""
import http.server, os, sys


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"OK")
        if self.path == "/die":
            sys.stderr.write("the disk of the store is gone\\n")
            os._exit(7)


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Page).serve_forever()
'''

CLIENT = """
import sys
from flows import command, settings
_, params = command.open_project()
settings.apply(params.flow.ports.prefect)
from prefect import get_client
from prefect.deployments import run_deployment
from prefect.states import Cancelling
with get_client(sync_client=True) as client:
    match sys.argv[1:]:
        case ["start", name]:
            print(run_deployment(name, timeout=0, as_subflow=False).id)
        case ["cancel", run]:
            client.set_flow_run_state(run, Cancelling())
        case ["state", run]:
            state = client.read_flow_run(run).state
            print(state.name, state.message or "")
        case ["schedules", name]:
            for schedule in client.read_deployment_by_name(name).schedules:
                print(schedule.schedule.cron, schedule.schedule.timezone)
"""


@pytest.fixture
def project(warm: TinyProject) -> TinyProject:
    write(warm.root / "mlflow" / "server.py", MLFLOW)
    return warm


def client(project: TinyProject, *arguments: str) -> str:
    done = project.run("-c", CLIENT, *arguments)
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


def start_ui(project: TinyProject) -> subprocess.Popen[str]:
    ui = project.start("-m", "flows.ui")
    ports = project.ports
    wait_for(lambda: ui.poll() is not None or server.is_ours(ports["prefect"], project.root), 120)
    wait_for(lambda: server.get(f"http://127.0.0.1:{ports['mlflow']}/health") == 200, 30)
    return ui


@pytest.mark.parametrize("name", ["mlflow", "prefect"])
def test_a_taken_port_is_named_before_anything_starts(tiny, name):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        tiny.edit_flow(ports=tiny.ports | {name: other.getsockname()[1]})
        done = tiny.flow("ui")
    assert done.returncode == 1
    assert f"flow.ports.{name}" in done.stdout
    assert "taken by another program" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert not (tiny.root / ".prefect" / "prefect.db").exists()


def test_deploy_without_a_server_says_how_to_start_one(tiny):
    done = tiny.flow("deploy")
    assert done.returncode == 1
    assert "make ui" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_port_without_a_server_is_not_ours(tmp_path):
    assert not server.is_ours(free_port(), tmp_path)


@slow
def test_both_pages_answer_and_ctrl_c_ends_both(project):
    ui = start_ui(project)
    ports = project.ports
    try:
        api = settings.api_url(ports["prefect"])
        assert server.get(f"{api}/flows/count") == 401
        assert server.get(f"{api}/admin/version", auth="pipeline:guess") == 401
        assert server.get(f"http://127.0.0.1:{ports['prefect']}/") == 200
        assert not server.is_ours(ports["prefect"], project.root.parent)

        second = project.flow("ui")
        assert second.returncode == 1
        assert "'make ui' runs already" in second.stdout

        os.kill(ui.pid, signal.SIGINT)
        output, _ = ui.communicate(timeout=30)
    finally:
        end(ui)
    assert ui.returncode == 0
    assert f"http://127.0.0.1:{ports['mlflow']}" in output
    assert f"http://127.0.0.1:{ports['prefect']}" in output
    assert ".prefect/auth" in output
    assert project.password() not in output
    assert "Traceback" not in output
    assert wait_for(lambda: not project.processes(), 10)
    assert server.is_free(ports["mlflow"])
    assert server.is_free(ports["prefect"])


@slow
def test_one_server_that_dies_ends_the_other_and_its_last_words_are_shown(project):
    ui = start_ui(project)
    try:
        server.get(f"http://127.0.0.1:{project.ports['mlflow']}/die")
        output, _ = ui.communicate(timeout=30)
    finally:
        end(ui)
    assert ui.returncode == 1
    assert "MLflow ended with exit code 7" in output
    assert "the disk of the store is gone" in output
    assert wait_for(lambda: not project.processes(), 10)


@pytest.mark.chaos
def test_sigterm_and_sigkill_end_the_servers_too(project):
    for number in (signal.SIGTERM, signal.SIGKILL):
        ui = start_ui(project)
        try:
            os.kill(ui.pid, number)
            ui.communicate(timeout=30)
        finally:
            end(ui)
        assert wait_for(lambda: not project.processes(), 20)


@slow
@pytest.mark.timeout(600)
def test_deployed_flows_run_from_the_page_and_can_be_cancelled(project, tmp_path):
    project.edit_flow(schedules={"ingest": None, "training": "30 2 * * 1"}, timezone="Asia/Tokyo")
    project.plan("scan", "open('up', 'w'); time.sleep(300)")
    ui = start_ui(project)
    deploy = project.start("-m", "flows.deploy", cwd=tmp_path)
    try:
        wait_for(lambda: client_ready(project), 60)
        assert client(project, "schedules", "training/default") == "30 2 * * 1 Asia/Tokyo"
        assert client(project, "schedules", "ingest/default") == ""

        # A run from the page, in a process of its own, holds the workspace; another one waits.
        first = client(project, "start", "training/default")
        wait_for((project.root / "up").exists, 120)
        assert project.flow("training").returncode == 75
        waiting = client(project, "start", "ingest/default")
        assert client(project, "state", waiting).split()[0] in {"Scheduled", "Late"}

        client(project, "cancel", first)
        wait_for(lambda: client(project, "state", first).startswith("Cancelled"), 60)
        assert not any("stage.py" in line for line in project.processes())
        wait_for(lambda: client(project, "state", waiting).startswith("Completed"), 60)
        assert (project.root / "commands").read_text().splitlines()[-1] == "ingest"

        # Ended while a run goes on, the run is ended with it and does not stay "Running".
        (project.root / "up").unlink()
        last = client(project, "start", "training/default")
        wait_for((project.root / "up").exists, 120)
        os.kill(deploy.pid, signal.SIGTERM)
        output, _ = deploy.communicate(timeout=90)
        assert deploy.returncode == 0
        assert "Traceback" not in output
        assert client(project, "state", last).startswith("Crashed")
        assert not any("stage.py" in line for line in project.processes())
    finally:
        end(deploy)
        end(ui)
    # The server's scheduler has put the next Mondays down as runs to come.
    planned = project.database("select count(*) from flow_run where auto_scheduled")
    assert planned[0][0] > 0


def client_ready(project: TinyProject) -> bool:
    done = project.run("-c", CLIENT, "schedules", "training/default")
    return done.returncode == 0


@slow
def test_a_scheduled_line_that_is_none_is_refused_by_name(project):
    ui = start_ui(project)
    try:
        project.edit_flow(schedules={"ingest": "every night", "training": None})
        done = project.flow("deploy")
        assert done.returncode == 2
        assert "flow.schedules.ingest: 'every night'" in done.stdout
        project.edit_flow(schedules={"ingest": "0 3 * * *", "training": None}, timezone="Mars")
        done = project.flow("deploy")
        assert done.returncode == 2
        assert "flow.timezone: 'Mars'" in done.stdout
    finally:
        end(ui)
