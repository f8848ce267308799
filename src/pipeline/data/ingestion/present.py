"""The version that stands in ``data/``: the hashes of its files, each read only when it changed.

What a file hashed to is remembered under ``.pipeline/`` with its size, its time of change and its
inode, as DVC and git do it; deleting that memory costs one reading of ``data/``.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.artifacts import write_text
from pipeline.console import progress
from pipeline.data.ingestion import version
from pipeline.data.ingestion.canonical import (
    CLASSES,
    METADATA,
    Columns,
    parse_classes,
    parse_metadata,
)
from pipeline.errors import DataRefused
from pipeline.workspace import Workspace

_FORMAT = 1

_RACY_NS = 2_000_000_000
"""A file changed this shortly before it was looked at may change again within one tick of the
clock, and then look the same: it is read again next time."""

_WORTH_A_BAR = 1000
"""Files to read from which on progress is shown."""


@dataclass(frozen=True)
class Present:
    """The recorded version in ``data/``."""

    data: Path
    hashes: dict[str, str]
    """The MD5 of every file, by its POSIX path."""
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", version.digest(self.hashes))

    def table(self) -> Columns:
        """``metadata.csv`` as text.

        Raises:
            PipelineError, DataRefused: it is missing, or cannot be used.
        """
        from pipeline.data.scanning.listing import read_listing  # a second of imports

        path = self.data / METADATA
        read_listing(path)
        return parse_metadata(path.read_bytes())

    def classes(self) -> tuple[str, ...]:
        return parse_classes(self.data / CLASSES)


def read_present(workspace: Workspace) -> Present | None:
    """The version in ``data/``; ``None`` where there is none.

    Raises:
        DataRefused: it has changes that ``data.dvc`` does not record, or is no folder.
    """
    data, recorded = workspace.data, version.recorded(workspace)
    if not data.exists() and not data.is_symlink():
        return None
    if data.is_symlink() or not data.is_dir():
        raise DataRefused(
            f"{data}: a link or a file, but ingest has to replace a folder; move it away"
        )
    present = Present(data, data_hashes(workspace))
    if present.digest != recorded:
        what = "has changes that data.dvc does not record" if recorded else "is not in data.dvc"
        raise DataRefused(
            f"{data}: {what}, and ingest would overwrite it; keep it as a version of its own by"
            f" '{version.ACCEPT}', or move it away"
            + (f", or drop the changes by '{version.BRING_BACK}'" if recorded else "")
        )
    return present


def data_hashes(workspace: Workspace) -> dict[str, str]:
    """As `version.folder_hashes` of ``data/``, reading only what changed since the last time."""
    memory = workspace.root / ".pipeline" / "data-files.json"
    known = _remembered(memory)
    looked = time.time_ns()
    files = dict(version.files_below(workspace.data))
    with version.readable():
        looks = {name: _look(path) for name, path in files.items()}
    changed = [name for name in files if known.get(name, [""])[1:] != looks[name]]
    hashes = {name: str(known[name][0]) for name in files.keys() - {*changed}}
    quiet = len(changed) < _WORTH_A_BAR
    with (
        contextlib.nullcontext() if quiet else progress("read data/", len(changed), "files") as bar
    ):
        for name in changed:
            with version.readable():
                hashes[name] = version.copy_hashed(files[name], None)
            if bar:
                bar.advance()
    settled = {n: [hashes[n], *looks[n]] for n in files if looks[n][1] < looked - _RACY_NS}
    if settled != known:
        text = json.dumps({"format": _FORMAT, "files": settled}, separators=(",", ":"))
        with contextlib.suppress(OSError):  # a full or read-only disk only costs the next reading
            write_text(memory, text)
    return hashes


def _look(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _remembered(memory: Path) -> dict[str, list[str | int]]:
    try:
        noted = json.loads(memory.read_text(encoding="utf-8"))
        return dict(noted["files"]) if noted["format"] == _FORMAT else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}  # absent, or cut short: all is read anew
