"""Starts MLflow's server on this machine alone, on the project's own store.

``python mlflow/server.py [--port N]`` stays until Ctrl-C or SIGTERM and leaves no process behind.
Exit codes: 0 ended as asked, 1 the port is taken or the server failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import psutil

from pipeline.console import logger, set_up_logging
from pipeline.errors import PipelineError
from pipeline.params import load
from pipeline.tracking.flow_run import TRAINING_VIEW
from pipeline.tracking.store import SETTINGS, create_database, own_uri
from pipeline.workspace import Workspace

HOST = "127.0.0.1"
"""No other machine reaches the server; MLflow has no password of its own."""
NAMES = (HOST, "localhost")
"""The only names it answers to: a page elsewhere cannot reach it under a name of its own."""
PAGE = f"#/experiments{TRAINING_VIEW}"
WORKERS = 1
"""One person looks at it; each further worker is another process with all of MLflow."""
ENVIRONMENT = SETTINGS | {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # nobody starts code from the page
}
GRACE = 5.0
"""Seconds that the server has to end before it is killed."""


def command(workspace: Workspace, port: int) -> tuple[list[str], dict[str, str]]:
    """The server's command line and environment."""
    artifacts = (workspace.mlflow / "artifacts").as_uri()
    argv = [sys.executable, "-m", "mlflow", "server"]
    argv += ["--host", HOST, "--port", str(port), "--workers", str(WORKERS)]
    argv += ["--backend-store-uri", own_uri(workspace)]
    argv += ["--serve-artifacts", "--artifacts-destination", artifacts]
    argv += ["--allowed-hosts", ",".join(f"{name}:{port}" for name in NAMES)]
    argv += ["--cors-allowed-origins", ",".join(f"http://{name}:{port}" for name in NAMES)]
    argv += ["--uvicorn-opts", "--log-level warning"]
    # The server is the store: it must not look for another one.
    own = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return argv, own | ENVIRONMENT


def serve(workspace: Workspace, port: int) -> None:
    """Run the server until this process is asked to end.

    Raises:
        PipelineError: the port is taken, the store cannot be used, or the server ended by itself.
    """
    _require_free(port)
    create_database(workspace)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    argv, environment = command(workspace, port)
    logger.info("starting MLflow on %s", own_uri(workspace))
    server = _start(argv, workspace.root, environment)
    try:
        while server.poll() is None and not _answers(port):
            time.sleep(0.2)
        if server.returncode is None:
            logger.info("MLflow: http://%s:%d/%s (Ctrl-C ends it)", HOST, port, PAGE)
        code = server.wait()
        raise PipelineError(f"MLflow's server ended with exit code {code}; see its words above")
    finally:
        _end(server)


def _start(argv: list[str], root: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """The server as a child that never sees the terminal's Ctrl-C.

    It would end by itself then, with a traceback of its own; this process ends it by SIGTERM.
    It inherits the blocked signal, also through its own children.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(argv, cwd=root, env=environment)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def main() -> int:
    set_up_logging()
    workspace = Workspace(Path(__file__).resolve().parent.parent)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=_port, help="default: flow.ports.mlflow in params.yaml")
    try:
        port = parser.parse_args().port or load(workspace.params).flow.ports.mlflow
        serve(workspace, port)
    except PipelineError as error:
        logger.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        logger.info("MLflow has ended")
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 1024 to 65535")
    return int(text)


def _stop(number: int, frame: FrameType | None) -> None:
    del number, frame
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_IGN)  # one request is enough; ending takes a moment
    raise KeyboardInterrupt


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise PipelineError(
                f"port {port} of {HOST} is taken: end the program that has it, or set another one"
                " with --port or as flow.ports.mlflow in params.yaml"
            ) from None


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and all that it has started."""
    try:
        processes = psutil.Process(server.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        processes = []
    if server.poll() is None:
        server.terminate()
    _, left = psutil.wait_procs(processes, timeout=GRACE)
    for process in left:
        process.kill()
    try:
        server.wait(GRACE)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
