"""Bringing a finished folder into the place of ``data/``, so that a kill at any moment leaves
``data/`` the old version or the new one, and the next command puts ``data.dvc`` right.

Before anything moves, an intent file says which version goes and which comes. Whoever finds one
finishes that swap where the new version is in place, and undoes it otherwise.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.artifacts import aside, bring_in, write_json, write_text
from pipeline.console import logger
from pipeline.data.ingestion import dvc_locks, version
from pipeline.workspace import Workspace

INCOMING = ".data.incoming-"
"""How a folder that may become ``data/`` is called, beside it and so on the same file system."""

_UNCLEAR = "data.unfinished"


@dataclass(frozen=True)
class _Intent:
    incoming: str
    """The name of the folder that holds the new version; after the exchange, the old one."""
    new: str
    """The hash of the version that comes."""
    old: str | None
    """The hash of the version that goes; ``None``: there was no ``data/``."""
    data_dvc: str | None
    """The text of ``data.dvc`` before; ``None``: there was none."""
    relink: bool = True
    """Whether DVC shall make links or copies of the new files; see `version.record`."""
    in_place: bool = False
    """DVC fills an absent ``data/`` file by file, so what is there may be a part of ``new``."""


@contextlib.contextmanager
def incoming_folder(workspace: Workspace) -> Iterator[Path]:
    """Yield an empty folder beside ``data/``; whatever is left of it at the end is removed."""
    folder = Path(tempfile.mkdtemp(prefix=INCOMING, dir=workspace.root))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        if not _intent_file(workspace).exists():  # else `recover` needs it
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(workspace: Workspace) -> Iterator[Path]:
    """Yield an empty folder for what a source unpacks, on the file system of ``data/``.

    It is removed at the end, and what a killed ingest left in it at the start.
    """
    folder = _scratch(workspace)
    _remove(folder)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def install(
    workspace: Workspace, incoming: Path, *, new: str, old: str | None, relink: bool = True
) -> None:
    """Make ``incoming``, whose hash is ``new``, the recorded version of ``data/``.

    ``old`` is the hash of the present ``data/``, or ``None`` where there is none; ``relink`` is for
    `version.record`. On any error the
    present version stays, with its ``data.dvc``.

    Raises:
        Busy: a DVC command is running.
        PipelineError: DVC could not record the new version.
    """
    intent = _Intent(incoming.name, new, old, _text(workspace.data_dvc), relink)
    os.sync()  # a power cut must not leave an intent without what it points to
    with dvc_locks.at_rest(workspace):
        write_json(_intent_file(workspace), asdict(intent))
        try:
            bring_in(incoming, workspace.data)
        except BaseException:
            _undo(workspace, intent)
            raise
    try:
        version.record(workspace, new, relink=relink)
    except BaseException:
        with dvc_locks.at_rest(workspace):
            _undo(workspace, intent)
        raise
    _clear(workspace, intent)


@contextlib.contextmanager
def filling(workspace: Workspace, new: str) -> Iterator[None]:
    """While DVC brings the version ``new`` into an absent ``data/``: all of it, or nothing.

    The body leaves ``data/`` absent or complete, or raises.
    """
    intent = _Intent(f"{INCOMING}none", new, None, _text(workspace.data_dvc), in_place=True)
    write_json(_intent_file(workspace), asdict(intent))
    try:
        yield
    except BaseException:
        with dvc_locks.at_rest(workspace):
            _undo(workspace, intent)
        raise
    _clear(workspace, intent)


def recover(workspace: Workspace) -> None:
    """Finish or undo a swap that was cut short. Call it before any look at ``data/``.

    Raises:
        Busy: a DVC command is still running.
    """
    path = _intent_file(workspace)
    if path.exists():
        intent = _Intent(**json.loads(path.read_text(encoding="utf-8")))
        if _hash(workspace.data) == intent.new:
            version.record(workspace, intent.new, relink=intent.relink)
            logger.info("an ingest that was cut short: finished, data/ is the new version")
            _clear(workspace, intent)
        else:
            with dvc_locks.at_rest(workspace):
                _undo(workspace, intent)
            logger.info("an ingest that was cut short: undone, data/ is what it was before")
    for stray in (*workspace.root.glob(f"{INCOMING}*"), _scratch(workspace)):
        _remove(stray)


def _undo(workspace: Workspace, intent: _Intent) -> None:
    """Put the old version back from wherever a kill or an error left it."""
    data, incoming = workspace.data, workspace.root / intent.incoming
    present = _hash(data)
    if intent.in_place and present not in {intent.new, None}:
        _remove(data)
        present = None
    if present not in {intent.old, intent.new, None}:
        # Neither version, so perhaps someone's work: kept, under a name that is seen.
        kept = Path(tempfile.mkdtemp(prefix=f"{_UNCLEAR}-", dir=workspace.root)) / data.name
        data.rename(kept)
        logger.warning("%s: what was in data/ is neither the old nor the new version; kept", kept)
        present = None
    if present != intent.old:
        holders = (aside(incoming), incoming)
        old = next((h for h in holders if intent.old is not None and _hash(h) == intent.old), None)
        if old is not None:
            bring_in(old, data)
        elif intent.old is None:
            data.rename(incoming)  # there was none before
    for folder in (incoming, aside(incoming)):
        _remove(folder)  # now, since on a full disk data.dvc needs the space
    if intent.data_dvc is None:
        workspace.data_dvc.unlink(missing_ok=True)
    elif intent.data_dvc != _text(workspace.data_dvc):
        write_text(workspace.data_dvc, intent.data_dvc)
    _clear(workspace, intent)


def _clear(workspace: Workspace, intent: _Intent) -> None:
    _intent_file(workspace).unlink()
    incoming = workspace.root / intent.incoming
    for folder in (incoming, aside(incoming)):
        _remove(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _intent_file(workspace: Workspace) -> Path:
    return workspace.root / ".pipeline" / "ingest.json"


def _scratch(workspace: Workspace) -> Path:
    return workspace.root / ".pipeline" / "ingest" / "scratch"


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _hash(folder: Path) -> str | None:
    return version.folder_md5(folder) if folder.is_dir() else None
