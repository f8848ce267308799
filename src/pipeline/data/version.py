"""The version of ``data/``: DVC's hash of a folder, ``data.dvc``, and DVC itself as a command."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from pipeline.errors import Busy, DataRefused, PipelineError
from pipeline.workspace import Workspace

ACCEPT = "python -m pipeline data accept"
BRING_BACK = "dvc checkout data.dvc --force"


_BLOCK = 1 << 20


def copy_hashed(source: Path, target: Path | None) -> str:
    """The MD5 of ``source``, whose bytes go to the new file ``target`` on the way, if one is given.

    ``target`` belongs to whoever calls, also where this fails half-way.
    """
    md5 = hashlib.md5(usedforsecurity=False)
    with contextlib.ExitStack() as stack:
        reading = stack.enter_context(source.open("rb"))
        writing = stack.enter_context(target.open("xb")) if target else None
        while block := reading.read(_BLOCK):
            md5.update(block)
            if writing:
                writing.write(block)
    return md5.hexdigest()


def folder_hashes(folder: Path) -> dict[str, str]:
    """The MD5 of every file below ``folder``, by its relative POSIX path."""
    hashes: dict[str, str] = {}
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        relative = Path(parent).relative_to(folder)
        for name in sorted(files):
            hashes[(relative / name).as_posix()] = copy_hashed(Path(parent, name), None)
    return hashes


def digest(hashes: Mapping[str, str]) -> str:
    """DVC's hash of a folder: the MD5 of the sorted listing of its files, with ``.dir`` behind."""
    entries = [{"md5": hashes[name], "relpath": name} for name in sorted(hashes)]
    listing = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"


def folder_md5(folder: Path) -> str:
    """What ``dvc add`` would write into the ``.dvc`` file of ``folder``."""
    return digest(folder_hashes(folder))


def recorded(workspace: Workspace) -> str | None:
    """The hash in ``data.dvc``; ``None`` where there is no such file.

    Raises:
        DataRefused: it names no version of ``data/``.
    """
    path = workspace.data_dvc
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        (output,) = yaml.safe_load(text)["outs"]
        if output["path"] != workspace.data.name or not output["md5"].endswith(".dir"):
            raise ValueError("it is about another path, or not about a folder")
        return str(output["md5"])
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError) as error:
        cause = " ".join(str(error).split())
        raise DataRefused(
            f"{path}: names no version of data/ ({cause}); settle a merge conflict there, or"
            " get the file back by 'git checkout data.dvc'"
        ) from error


def require_repository(workspace: Workspace) -> None:
    """See that DVC can work here.

    Raises:
        PipelineError: DVC is not installed, or the workspace is no DVC repository.
    """
    if importlib.util.find_spec("dvc") is None:
        raise PipelineError("DVC is not installed; run 'make setup', or 'pip install dvc'")
    if not (workspace.root / ".dvc").is_dir():
        raise PipelineError(f"{workspace.root}: not a DVC repository; run 'dvc init' there first")


def run_dvc(workspace: Workspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run DVC in the workspace; a failure is in the return code, its words in ``stderr``.

    Raises:
        Busy: another DVC command holds its locks.
        PipelineError: DVC is not installed, or the workspace is no DVC repository.
    """
    require_repository(workspace)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=workspace.root,
        env=os.environ | {"DVC_NO_ANALYTICS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    locked = "Unable to acquire lock", "it is being blocked by"
    if done.returncode and any(words in done.stderr for words in locked):
        raise Busy(
            f"{workspace.root}: another DVC command is running here; wait until it ends, then"
            " try again"
        )
    return done


def record(workspace: Workspace, expected: str | None = None) -> str:
    """Store ``data/`` in DVC's cache and its hash in ``data.dvc``; returns the hash.

    A ``data.dvc`` that already has the hash keeps its bytes.

    Raises:
        Busy: another DVC command is running.
        PipelineError: DVC failed, or its hash is not the ``expected`` one.
    """
    path = workspace.data_dvc
    before = path.read_bytes() if path.exists() else None
    before_md5 = None
    with contextlib.suppress(DataRefused):  # about to be written anew
        before_md5 = recorded(workspace)
    done = run_dvc(workspace, "add", "data")
    if done.returncode:
        raise PipelineError(f"'dvc add data' failed: {words_of(done)}")
    md5 = recorded(workspace)
    if md5 is None or (expected is not None and md5 != expected):
        raise PipelineError(
            f"data.dvc: DVC's hash of data/ is {md5}, expected {expected}; does a line of"
            " .dvcignore leave out some of its files?"
        )
    if before is not None and before_md5 == md5 and path.read_bytes() != before:
        path.write_bytes(before)
    return md5


def words_of(done: subprocess.CompletedProcess[str]) -> str:
    """What DVC said went wrong, in one line."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    start = lines.index(errors[0]) if errors else max(len(lines) - 1, 0)
    said = " ".join(line.removeprefix("ERROR:").strip() for line in lines[start : start + 4])
    return said or f"exit code {done.returncode}"
