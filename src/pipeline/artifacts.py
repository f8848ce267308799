"""Reading and writing files so that a reader finds the old version or the new one, never half."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is fsynced and takes ``path``'s place.

    The body writes one file to the yielded path. When it raises, the temporary file is removed and
    ``path`` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(
        prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent
    )
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would hide outputs from the rest of a team
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; on success it takes that place whole.

    What a process that was killed in here left beside ``path`` is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(f".{path.name}.", path.parent) as temporary:
        yield temporary
        temporary.chmod(0o755)
        bring_in(temporary, path)


@contextlib.contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder that only this user can enter; it is removed at the end.

    Folders in ``parent``, by default the system's for temporary files, whose names begin with
    ``prefix`` are taken for such: those that killed processes left are removed first.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    for left in parent.iterdir():
        if left.name.startswith(prefix) and left.is_dir():
            _remove_unless_held(left)
    folder, descriptor = _held_folder(prefix, parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _held_folder(prefix: str, parent: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor by which the kernel knows that its process lives."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with contextlib.suppress(FileNotFoundError):  # removed by another before it was held
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)


def _remove_unless_held(folder: Path) -> None:
    with contextlib.suppress(OSError):  # held, or removed meanwhile
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(descriptor)


def bring_in(folder: Path, path: Path) -> None:
    """Rename ``folder`` to ``path``; a folder that was there takes the name of ``folder``.

    In one step where the system can exchange two names; elsewhere ``path`` is missing for a moment,
    and what was there is `aside`.
    """
    if not path.exists():
        folder.rename(path)
    elif not _exchange(folder, path):
        path.rename(aside(folder))
        try:
            folder.rename(path)
        except OSError:
            aside(folder).rename(path)
            raise
        aside(folder).rename(folder)
    fsync_folder(path.parent)


def aside(folder: Path) -> Path:
    """Where a kill within `bring_in` of ``folder`` may leave what stood in its new place."""
    return folder.with_name(f"{folder.name}.old")


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names in one step; ``False`` where the system cannot."""
    renameat2 = None
    if sys.platform == "linux":
        renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    a, b = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(_AT_FDCWD, a, _AT_FDCWD, b, _RENAME_EXCHANGE) == 0)


def fsync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON with sorted keys, so that equal values are equal bytes.

    NaN and infinity are refused (``ValueError``): they are not JSON, and DVC cannot read them.
    """
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(require(path).read_text(encoding="utf-8"))


def require(path: Path) -> Path:
    """``path``, which an earlier stage has to have written.

    Raises:
        PipelineError: it is missing.
    """
    if not path.exists():
        raise PipelineError(
            f"{path}: missing; run 'dvc repro' to make what comes before this stage"
        )
    return path


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
