"""The Prefect server that a run talks to: the one of ``make ui`` if it runs, else one for a while.

Both work on the same database below ``.prefect``, so that what ran is seen later in ``make ui``.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from flows import settings
from flows.processes import ProcessGroup
from pipeline.errors import PipelineError

START_TIMEOUT = 120.0
"""Seconds a server may take to answer; on two cores it takes 5, and 10 for a new database."""


def get(url: str, *, auth: str | None = None, timeout: float = 2.0) -> int | None:
    """The status of a GET on this machine, past any proxy; None where nothing answers by HTTP."""
    request = urllib.request.Request(url)  # noqa: S310 (addresses are our own)
    if auth is not None:
        token = base64.b64encode(auth.encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return None


def is_ours(port: int, root: Path = settings.ROOT) -> bool:
    """Whether the server on ``port`` is this project's: it alone knows the password."""
    address = f"{settings.api_url(port)}/admin/version"
    return get(address) == 401 and get(address, auth=settings.auth(root)) == 200


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` of the loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.HOST, port))
        except OSError:
            return False
    return True


def start(port: int, *, log: Path, root: Path = settings.ROOT, page: bool) -> ProcessGroup:
    """Start this project's server on ``port``; with its ``page`` and the scheduler, or without.

    It answers some seconds later (`wait_until_up`). What it prints goes to ``log``.
    """
    environment = settings.server_environment(port, root)
    if page:
        arguments = ["-m", "prefect", "server", "start"]
        arguments += ["--host", settings.HOST, "--port", str(port)]
    else:
        environment |= {"PREFECT_SERVER_UI_ENABLED": "false", "PREFECT__SERVER_EPHEMERAL": "1"}
        arguments = ["-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
        arguments += ["--host", settings.HOST, "--port", str(port), "--log-level", "error"]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        return ProcessGroup(
            [sys.executable, *arguments], cwd=root, environment=environment, output=output
        )


def wait_until_up(name: str, group: ProcessGroup, url: str, log: Path) -> None:
    """Return once ``url`` answers.

    Raises:
        PipelineError: the server ended, or did not answer in time; the message ends with its last
            lines.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while get(url) != 200:
        code = group.poll()
        if code is not None:
            raise PipelineError(f"{name} ended with {code} while starting\n{last_lines(log)}")
        if time.monotonic() > deadline:
            raise PipelineError(
                f"{name} did not answer on {url} within {START_TIMEOUT:.0f} s\n{last_lines(log)}"
            )
        time.sleep(0.05)


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a server's log, below the log's name."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join([f"the end of {log}:", *(f"  {line}" for line in lines[-count:])])


@contextlib.contextmanager
def connected(port: int, log: Path, root: Path = settings.ROOT) -> Iterator[None]:
    """Make this process a client of the project's server on ``port``, or of a temporary one.

    Prefect is imported here, at the earliest, while a temporary server starts.

    Raises:
        PipelineError: the temporary server did not start.
    """
    if is_ours(port, root):
        settings.apply(port, root)
        yield
        return
    with socket.socket() as probe:
        probe.bind((settings.HOST, 0))
        port = probe.getsockname()[1]
    group = start(port, log=log, root=root, page=False)
    try:
        settings.apply(port, root)
        import prefect.flows  # noqa: F401 (takes seconds, as does the server's start)

        wait_until_up(
            "the temporary Prefect server", group, f"{settings.api_url(port)}/health", log
        )
        try:
            yield
        finally:
            _send_what_is_left()
    finally:
        group.stop()


def _send_what_is_left() -> None:
    """Log lines and events that Prefect still holds back go to the server before that ends."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=_PATIENCE)
    EventsWorker.drain_all(timeout=_PATIENCE)


_PATIENCE = 10.0
"""Seconds that the last log lines may take to arrive."""
