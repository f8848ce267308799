"""MLflow stores for tests: one to copy, since making one takes seconds, and one behind a server."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.tracking.store import create_database
from pipeline.workspace import Workspace

PROJECT = Path(__file__).resolve().parent.parent


@cache
def _template() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="pipeline-test-store-")
    create_database(Workspace(Path(folder.name)))
    return folder


def give_store(workspace: Workspace) -> None:
    """Give ``workspace`` an empty store."""
    workspace.mlflow.mkdir(parents=True, exist_ok=True)
    template = Workspace(Path(_template().name))
    shutil.copyfile(template.mlflow / "mlflow.db", workspace.mlflow / "mlflow.db")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def refusing(status: int) -> Iterator[str]:
    """The address of a server that answers everything with ``status`` and some HTML."""

    class Refusal(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html>\n no </html>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@dataclass(frozen=True)
class ServedProject:
    """A folder with a store and the script that serves it."""

    workspace: Workspace
    port: int

    @classmethod
    def make(cls, root: Path, params_text: str) -> ServedProject:
        workspace = Workspace(root)
        give_store(workspace)
        workspace.params.write_text(params_text, encoding="utf-8")
        shutil.copy(PROJECT / "mlflow" / "server.py", workspace.mlflow / "server.py")
        return cls(workspace, free_port())

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> subprocess.Popen[str]:
        """Start ``mlflow/server.py`` and return once it answers."""
        script = self.workspace.mlflow / "server.py"
        server = subprocess.Popen(
            [sys.executable, str(script), "--port", str(self.port)],
            cwd=self.workspace.root,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        deadline = time.monotonic() + 90
        while True:
            with contextlib.suppress(OSError), self.open("/health"):
                return server
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                raise AssertionError(server.communicate()[1])
            time.sleep(0.1)

    def open(self, path: str, **headers: str) -> contextlib.closing:
        """GET ``path``; raises ``HTTPError`` for an answer that is no success."""
        request = urllib.request.Request(self.address + path, headers=headers)  # noqa: S310
        return contextlib.closing(urllib.request.urlopen(request, timeout=20))  # noqa: S310

    @contextlib.contextmanager
    def served(self) -> Iterator[subprocess.Popen[str]]:
        server = self.start()
        try:
            yield server
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
            server.communicate(timeout=30)
