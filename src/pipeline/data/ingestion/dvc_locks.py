"""What DVC has locked in this repository, and what a DVC that was killed leaves of it.

DVC 3 holds ``.dvc/tmp/lock`` while it changes the repository, and notes in ``.dvc/tmp/rwlock``, a
JSON file guarded by ``rwlock.lock``, which process reads or writes which path. A stage that runs
holds no lock and is noted alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from pipeline.console import logger
from pipeline.data.ingestion import version
from pipeline.errors import Busy
from pipeline.workspace import Workspace


@contextlib.contextmanager
def at_rest(workspace: Workspace) -> Iterator[None]:
    """Hold off DVC commands, and refuse while one reads or writes ``data/``.

    Raises:
        Busy: one is running.
    """
    version.require_repository(workspace)
    folder = _folder(workspace.root)
    folder.mkdir(parents=True, exist_ok=True)
    busy = Busy(
        f"{workspace.root}: a DVC command is at work on data/; wait until it ends, then try again"
    )
    with (folder / "lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        mend(workspace.root)
        if any(psutil.pid_exists(pid) for pid in _users(folder / "rwlock", workspace.data)):
            raise busy
        yield


def mend(root: Path) -> None:
    """Remove DVC's notes where a DVC that was killed left half of them.

    DVC rewrites the file in place, and refuses every command while it is no JSON. Of a process that
    was killed it needs no note; one that lives goes on without.
    """
    folder = _folder(root)
    notes = folder / "rwlock"
    if not notes.exists() or _read(notes) is not None:
        return
    with (folder / "rwlock.lock").open("a+", encoding="utf-8") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # whoever writes it now is done by then
        if notes.exists() and _read(notes) is None:
            notes.unlink()
            logger.info("%s: half written by a DVC that was killed, and removed", notes)


def _folder(root: Path) -> Path:
    return root / ".dvc" / "tmp"


def _read(notes: Path) -> dict[str, Any] | None:
    """``{"read": {path: [{"pid", "cmd"}]}, "write": {path: {"pid", "cmd"}}}``; None: not JSON."""
    try:
        noted = json.loads(notes.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        return None
    return noted if isinstance(noted, dict) else None


def _users(notes: Path, data: Path) -> Iterator[int]:
    """The processes that DVC has down as reading or writing ``data`` or something in it."""
    noted = _read(notes) or {}
    for mode in ("read", "write"):
        for path, holders in noted.get(mode, {}).items():
            if Path(path).is_relative_to(data):
                for holder in holders if isinstance(holders, list) else [holders]:
                    yield int(holder["pid"])
