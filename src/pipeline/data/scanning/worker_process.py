"""A `worker` as its parent sees it: a process that is given tasks and reports their rows."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import pipeline
from pipeline.console import logger
from pipeline.data.scanning.measure import Limits, open_file
from pipeline.data.scanning.worker import HEADER, STARTING, STATE, OpenFile

Row = Sequence[Any]
"""A file's measures, in the order of `worker.COLUMNS`."""

CHUNK = 32
"""Tasks that are given at once, at most."""

_LARGEST_FRAME = 1 << 26
_WORKERS_OWN = {
    # There are as many workers as processors.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # The memory of one image serves the next: glibc would give it back and get it cleared anew.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(1 << 24),
}


class Task(NamedTuple):
    """A file to read: its number for the caller, its name, its last known SHA-256."""

    number: int
    file_name: str
    sha256: str | None = None


class Result(NamedTuple):
    """Rows of measures, the numbers of their tasks, and their fingerprints, one after the other.

    A row has a fingerprint where its ``phash`` is known.
    """

    numbers: list[int]
    rows: list[Row]
    fingerprints: bytes


@dataclass(frozen=True)
class Setting:
    """What every worker is told; ``timeout`` in seconds a file, ``memory`` in MB a worker."""

    folder: Path
    limits: Limits
    timeout: float
    memory: int
    open_file: OpenFile = open_file
    """A function of a module, which workers import by its name."""


class WorkerProcess:
    """One process, and the tasks it was given and has not reported."""

    def __init__(
        self, setting: Setting, shared: BinaryIO, state: mmap.mmap, slot: int, log: BinaryIO
    ) -> None:
        self.slot = slot
        self.out: deque[Task] = deque()
        self.ended = False
        self.not_before = 0
        """A file's time is not counted from before this `time.monotonic_ns`."""
        self._reported = 0
        self._state = state
        self._received = bytearray()
        STATE.pack_into(state, slot * STATE.size, STARTING, 0)
        self._process = subprocess.Popen(
            # Without `site`: it would look for what it finds in the search path it is given.
            [sys.executable, "-P", "-S", "-m", "pipeline.data.scanning.worker"],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=_environment(),
            pass_fds=[shared.fileno()],
            process_group=0,  # Ctrl-C is the parent's to handle
        )
        self._input = cast(BinaryIO, self._process.stdin)
        self.output = cast(BinaryIO, self._process.stdout)
        os.set_blocking(self.output.fileno(), False)
        self._send(_orders(setting, shared.fileno(), slot))

    @property
    def started(self) -> bool:
        return self._read_state()[0] != STARTING

    def at(self) -> int:
        """The place in ``out`` of the file that is being read; negative where there is none."""
        number = self._read_state()[0]
        return number - self._reported if number >= 0 else -1

    def is_late(self, now: int, limit: int) -> bool:
        """Whether it has been at one file for more than ``limit`` nanoseconds."""
        number, began = self._read_state()
        return number >= 0 and now - max(began, self.not_before) > limit

    def wants_more(self) -> bool:
        """Whether it should be given another chunk, so that it does not wait for one."""
        return len(self.out) <= CHUNK

    def give(self, tasks: list[Task], alone: bool) -> None:
        """Have ``tasks`` done, each file ``alone`` if there is someone to be found out."""
        self.out.extend(tasks)
        files = [(task.file_name, task.sha256) for task in tasks]
        self._send({"files": files, "alone": alone})

    def receive(self) -> Iterator[Result]:
        """What has arrived whole; sets ``ended`` when there will be no more."""
        while not self.ended and (read := self.output.read(1 << 20)) is not None:
            self._received += read
            self.ended = not read
        while len(self._received) >= HEADER.size:
            text, blob = HEADER.unpack_from(self._received)
            if text + blob > _LARGEST_FRAME:  # whatever wrote this is no worker of ours any more
                self.ended = True
                self._received.clear()
            end = HEADER.size + text + blob
            if len(self._received) < end:
                return
            message = json.loads(self._received[HEADER.size : HEADER.size + text])
            fingerprints = bytes(self._received[end - blob : end])
            del self._received[:end]
            if "defect" in message:
                logger.error("scan: a defect, please report it:\n%s", message["defect"])
                continue
            rows = message["rows"]
            self._reported += len(rows)
            yield Result([self.out.popleft().number for _ in rows], rows, fingerprints)

    def kill(self) -> None:
        """End the process; what it has already written can still be received."""
        self._process.kill()
        self._process.wait()
        self._input.close()

    def _read_state(self) -> tuple[int, int]:
        number, began = STATE.unpack_from(self._state, self.slot * STATE.size)
        return number, began

    def _send(self, message: object) -> None:
        try:
            self._input.write(json.dumps(message, ensure_ascii=False).encode() + b"\n")
        except BrokenPipeError:
            return  # it ended: its output says so too


def _orders(setting: Setting, state: int, slot: int) -> dict[str, object]:
    return {
        "parent": os.getpid(),
        "state": state,
        "slot": slot,
        "folder": str(setting.folder),
        "limits": asdict(setting.limits),
        "memory": setting.memory,
        "open_file": [setting.open_file.__module__, setting.open_file.__qualname__],
    }


def _environment() -> dict[str, str]:
    """This process's, with its search path."""
    # This package itself may have been found by an import hook, which only `site` would set up.
    entries = [*sys.path, str(Path(pipeline.__file__).parent.parent)]
    path = os.pathsep.join(os.path.abspath(entry) for entry in entries)  # noqa: PTH100 ('' too)
    return os.environ | _WORKERS_OWN | {"PYTHONPATH": path}
