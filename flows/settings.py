"""The environment of every process of this project that has to do with Prefect.

Prefect reads its settings when it is imported, so `apply` comes before that. What a user's own
environment or profile says about Prefect is left out: this project has a server, a database and a
password of its own below ``.prefect``, and sends nothing anywhere else.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pipeline.errors import PipelineError

ROOT = Path(__file__).resolve().parent.parent
"""The project that these flows belong to, from whatever folder they are started."""

HOST = "127.0.0.1"
USER = "pipeline"
LOGGING = Path(__file__).with_name("logging.yml")


def home(root: Path = ROOT) -> Path:
    """The folder of Prefect's database and password."""
    return root / ".prefect"


def api_url(port: int) -> str:
    return f"http://{HOST}:{port}/api"


def auth_file(root: Path = ROOT) -> Path:
    """Holds ``user:password`` of the Prefect server, for the login of its page."""
    return home(root) / "auth"


def auth(root: Path = ROOT) -> str:
    """``user:password``, made up once for each project and readable by its owner alone.

    Raises:
        PipelineError: the file is empty or others may read it.
    """
    path = auth_file(root)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        temporary = path.with_name(f".auth.{os.getpid()}.{secrets.token_hex(4)}")
        temporary.touch(mode=0o600)
        try:
            temporary.write_text(f"{USER}:{secrets.token_urlsafe(24)}\n", encoding="utf-8")
            with suppress(FileExistsError):  # of two processes at once, the first one's stays
                os.link(temporary, path)
        finally:
            temporary.unlink()
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise PipelineError(
            f"{path}: others may read this password; 'chmod 600' it, or delete it for a new one"
        )
    text = path.read_text(encoding="utf-8").strip()
    user, _, password = text.partition(":")
    if not user or not password:
        raise PipelineError(f"{path}: expected user:password; delete the file for a new one")
    return text


def without_prefect(environment: Mapping[str, str]) -> dict[str, str]:
    """What a stage gets to see: it needs no Prefect, and the password is none of its business."""
    return {key: value for key, value in environment.items() if not key.startswith("PREFECT_")}


def common_environment(root: Path = ROOT) -> dict[str, str]:
    """What Prefect's servers and clients share."""
    path = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return without_prefect(os.environ) | {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(os.pathsep.join(path).split(os.pathsep))),
        "PREFECT_HOME": str(home(root)),
        "PREFECT_PROFILES_PATH": str(home(root) / "profiles.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": (direct := _directly("NO_PROXY")),
        "no_proxy": direct,
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_API_AUTH_STRING": (password := auth(root)),
        "PREFECT_SERVER_API_AUTH_STRING": password,
    }


def _directly(name: str) -> str:
    """The hosts that are reached without a proxy, this machine among them."""
    hosts = [host for host in os.environ.get(name, "").split(",") if host]
    return ",".join(dict.fromkeys([*hosts, HOST, "localhost"]))


def client_environment(port: int, root: Path = ROOT) -> dict[str, str]:
    """For a process that runs or serves flows against the server on ``port``."""
    return common_environment(root) | {
        "PREFECT_API_URL": api_url(port),
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_LOGGING_LEVEL": "INFO",
        "PREFECT_LOGGING_CONFIG_PATH": str(LOGGING),
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }


def server_environment(port: int, root: Path = ROOT) -> dict[str, str]:
    """For a server on ``port`` of this machine's loopback."""
    return common_environment(root) | {
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": api_url(port),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": (
            f"sqlite+aiosqlite:///{home(root) / 'prefect.db'}"
        ),
    }


def apply(port: int, root: Path = ROOT) -> None:
    """Make this process a client of the server on ``port``; Prefect must not be imported yet."""
    if "prefect" in sys.modules:
        raise RuntimeError("Prefect is imported already and has read its settings")
    environment = client_environment(port, root)
    for name in [name for name in os.environ if name not in environment]:
        del os.environ[name]
    os.environ.update(environment)
    sys.path[:0] = [entry for entry in [str(root)] if entry not in sys.path]


class WithoutTraceback(logging.Filter):
    """Takes the traceback from what Prefect logs of an error that a user can put right."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], PipelineError):
            record.exc_info = None
        return True
