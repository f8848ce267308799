"""The web pages of MLflow and Prefect, on this machine's loopback: ``python -m flows.ui``.

Both servers end with this process. Exit codes: see `flows.command`; Ctrl-C is the usual end, 0.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from flows import server, settings
from flows.command import main, open_project
from flows.execution import stage_environment
from flows.processes import ProcessGroup
from pipeline.console import logger
from pipeline.errors import PipelineError
from pipeline.params import Params, Ports
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Server:
    """A running server, the page it serves and where its words go."""

    name: str
    page: str
    health: str
    log: Path
    group: ProcessGroup


def serve() -> None:
    """Start both servers, say where they are, and stay until Ctrl-C.

    Raises:
        PipelineError: a port is taken, or a server ended; the other one is then ended too.
    """
    workspace, params = open_project()
    ports = params.flow.ports
    _require_free(workspace, ports)
    running: list[Server] = []
    try:
        running.append(_start_mlflow(workspace, ports.mlflow))
        running.append(_start_prefect(workspace, ports.prefect))
        logger.info("starting the servers of MLflow and Prefect, which takes some seconds")
        for each in running:
            server.wait_until_up(f"the server of {each.name}", each.group, each.health, each.log)
        _say_where(workspace, params, running)
        _watch(running)
    except KeyboardInterrupt:
        logger.info("ending both servers")
    finally:
        for each in running:
            each.group.terminate()
        for each in running:
            each.group.stop()


def _require_free(workspace: Workspace, ports: Ports) -> None:
    for name, port in (("mlflow", ports.mlflow), ("prefect", ports.prefect)):
        if server.is_free(port):
            continue
        if server.is_ours(ports.prefect, workspace.root):
            raise PipelineError(
                f"port {port} of {settings.HOST} is taken: 'make ui' runs already in this project"
            )
        raise PipelineError(
            f"port {port} of {settings.HOST} is taken by another program; end that,"
            f" or set another port as flow.ports.{name} in params.yaml"
        )


def _start_mlflow(workspace: Workspace, port: int) -> Server:
    log = workspace.state / "logs" / "mlflow.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        group = ProcessGroup(
            [sys.executable, str(workspace.root / "mlflow" / "server.py"), "--port", str(port)],
            cwd=workspace.root,
            environment=stage_environment(workspace.root),
            output=output,
        )
    page = f"http://{settings.HOST}:{port}"
    return Server("MLflow", page, f"{page}/health", log, group)


def _start_prefect(workspace: Workspace, port: int) -> Server:
    log = workspace.state / "logs" / "prefect.log"
    group = server.start(port, log=log, root=workspace.root, page=True)
    page = f"http://{settings.HOST}:{port}"
    return Server("Prefect", page, f"{settings.api_url(port)}/health", log, group)


def _say_where(workspace: Workspace, params: Params, running: list[Server]) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    auth = settings.auth_file(workspace.root).relative_to(workspace.root)
    logs = running[0].log.parent.relative_to(workspace.root)
    console.print()
    mlflow, prefect = running
    for name, page in (
        (mlflow.name, f"{mlflow.page}/{_runs(mlflow.page, params.register_.model)}"),
        (prefect.name, prefect.page),
    ):
        console.print(f"  {name:8} {page}", style="bold", soft_wrap=True)
    console.print(
        f"\n  Prefect's page asks for a password: paste the line in {auth} (only you can read it)."
        f"\n  The servers' logs: {logs}. Ctrl-C ends both.\n",
        soft_wrap=True,
    )


def _runs(address: str, experiment: str) -> str:
    """Where MLflow shows the runs of ``experiment``. Its start page is for language models."""
    name = urllib.parse.quote(experiment)
    query = f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={name}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address + query, timeout=10) as response:
            number = json.load(response)["experiment"]["experiment_id"]
    except (OSError, ValueError, KeyError):  # nothing was trained yet
        return "#/experiments?workflowType=machine_learning"
    return f"#/experiments/{number}/runs?workflowType=machine_learning"


def _watch(running: list[Server]) -> None:
    while True:
        for each in running:
            code = each.group.poll()
            if code is not None:
                raise PipelineError(
                    f"the server of {each.name} ended with exit code {code}, so both are ended;"
                    f" {server.last_lines(each.log)}"
                )
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main(serve))
