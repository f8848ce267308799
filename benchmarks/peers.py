"""The environment of the peers: what we compare with is no part of the project's own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from benchmarks.results import PROJECT

REQUIREMENTS = PROJECT / "benchmarks" / "requirements-peers.txt"


@cache
def peer_python() -> str:
    """The interpreter of an environment with ``requirements-peers.txt``, made when it is needed."""
    key = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = PROJECT / ".cache" / f"peers-{key}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        uv = str(Path(sys.executable).parent / "uv")
        environment = os.environ | {"UV_NO_PROGRESS": "1"}
        subprocess.run(
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
            check=True,
            env=environment,
        )
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(REQUIREMENTS)],
            check=True,
            env=environment,
        )
        (folder / "complete").touch()
    return str(python)


def peer_version(name: str) -> str:
    """``name`` and the version that is installed there."""
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    done = subprocess.run(
        [peer_python(), "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    return f"{name} {done.stdout.strip()}"
