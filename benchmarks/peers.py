"""The environments of the peers: what we compare with is no part of the project's own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

from benchmarks.results import PROJECT

BESIDE = {"data": False, "train": True, "evaluate": True}
"""Whether an environment lies beside the project's own and sees what is installed there: what is
compared in training has the same PyTorch, and its requirements are all that is added."""


@cache
def peer_python(name: str = "data") -> str:
    """The interpreter of an environment with ``requirements-peers-NAME.txt``, made when needed."""
    requirements = PROJECT / "benchmarks" / f"requirements-peers-{name}.txt"
    key = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    folder = PROJECT / ".cache" / f"peers-{name}-{key}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return str(python)
    shutil.rmtree(folder, ignore_errors=True)
    _uv("venv", "--quiet", "--python", sys.executable, str(folder))
    options = ["--no-deps"] if BESIDE[name] else []
    _uv("pip", "install", "--quiet", "--python", str(python), *options, "-r", str(requirements))
    if BESIDE[name]:
        (packages,) = (folder / "lib").glob("python*/site-packages")
        (packages / "project.pth").write_text(
            f"{sysconfig.get_path('purelib')}\n", encoding="utf-8"
        )
    (folder / "complete").touch()
    return str(python)


def peer_version(package: str, name: str = "data") -> str:
    """``package`` and the version that is installed in the environment ``name``."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run(
        [peer_python(name), "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    return f"{package} {done.stdout.strip()}"


def _uv(*arguments: str) -> None:
    uv = str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, *arguments], check=True, env=os.environ | {"UV_NO_PROGRESS": "1"})
