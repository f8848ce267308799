"""The journal of a training: metrics as JSON lines that survive whatever ends the process.

A line is ``{"metrics": {key: value}, "step": n, "time": ms}``. A line counts once its newline is on
disk, so a torn last line is no line: readers pass over it, and the next writer cuts it off.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import fsync_folder
from pipeline.console import logger


@dataclass(frozen=True)
class Entry:
    """What was measured at ``step``; ``time_ms`` is Unix time in milliseconds."""

    time_ms: int
    step: int
    metrics: Mapping[str, float]

    def to_line(self) -> bytes:
        fields = {"time": self.time_ms, "step": self.step, "metrics": dict(self.metrics)}
        return json.dumps(fields, sort_keys=True, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """Raises ``ValueError`` for anything that `to_line` does not write."""
        match json.loads(line):
            case {"time": int(time_ms), "step": int(step), "metrics": dict(metrics)}:
                values = {key: float(value) for key, value in metrics.items()}
                if all(math.isfinite(value) for value in values.values()):
                    return cls(time_ms, step, values)
        raise ValueError("not a line of a journal")


def read(path: Path) -> list[Entry]:
    """The entries in the order they were written; none if there is no file.

    Lines damaged on disk are passed over with a line in the log.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return list(_entries(content[: content.rfind(b"\n") + 1], path))


def _entries(content: bytes, path: Path) -> Iterator[Entry]:
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            yield Entry.from_line(line)
        except (ValueError, TypeError):
            logger.warning("%s, line %d is damaged and left out", path, number)


class Journal:
    """Appends to the journal at ``path``; one process at a time may.

    A (step, key) is written once: a resumed training, whose values are the same bits, passes over
    what the journal already holds.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._held: dict[int, set[str]] = {}
        for entry in read(path):
            self._held.setdefault(entry.step, set()).update(entry.metrics)
        _cut_torn_line(path)

    @property
    def last_step(self) -> int | None:
        """The highest step it holds; None while it is empty."""
        return max(self._held, default=None)

    def append(
        self, step: int, metrics: Mapping[str, float], *, time_ms: int | None = None
    ) -> None:
        """Write those of ``metrics`` that ``step`` does not hold yet; on disk when this returns.

        Values are finite (``ValueError``). ``time_ms`` is Unix time, now by default. The call
        costs one fsync: meant for epochs, not for batches.
        """
        held = self._held.setdefault(step, set())
        new = {key: value for key, value in metrics.items() if key not in held}
        if not new:
            return
        entry = Entry(time.time_ns() // 1_000_000 if time_ms is None else time_ms, step, new)
        line = entry.to_line()
        with self._path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        held.update(new)


def _cut_torn_line(path: Path) -> None:
    with path.open("a+b") as file:
        file.seek(0)
        content = file.read()
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            logger.warning("%s: its last line was torn and is cut off", path)
            file.truncate(complete)
            os.fsync(file.fileno())
    fsync_folder(path.parent)
