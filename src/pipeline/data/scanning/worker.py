"""The process in which bytes of unknown origin are decoded; it is started by its module's name.

`scanning.parallel` starts it, sends it lines of JSON and reads its frames. It takes orders and
reports, and may be killed at any moment. What it sends back is JSON and plain bytes, never a
pickle: a decoder that a file has taken over must not take over its parent too.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import mmap
import os
import signal
import struct
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from pipeline.data.scanning.measure import Limits, Measures, Opened, measure_pixels

OpenFile = Callable[[Path, str, Limits, str | None], Opened]

COLUMNS = tuple(field.name for field in fields(Measures) if field.name != "fingerprint")
"""The order of the values in a row of a frame; its fingerprint follows apart, as bytes."""
STATE = struct.Struct("=qq")
"""What a worker is at, in the memory it shares with its parent: the number of the file since its
start (`IDLE`, `STARTING`), and `time.monotonic_ns` when it began with it."""
IDLE, STARTING = -1, -2
HEADER = struct.Struct("=II")
"""Of a frame: the bytes of its JSON, and those of the fingerprints after it."""

DEFECT = "measuring it failed, which is a defect of the pipeline"

_GROUP = 16  # images that are measured together
_GROUP_BYTES = 1 << 23
_ROWS_A_FRAME = 32
_SECONDS_A_FRAME = 0.5

row_of: Callable[[Measures], tuple[Any, ...]] = attrgetter(*COLUMNS)
"""The row of a file's measures, its values in the order of `COLUMNS`."""


def lost(file_name: str, status: str, reason: str) -> Measures:
    """The measures of a file of which nothing was learned."""
    suffix = PurePosixPath(file_name).suffix.lower()
    return Measures(file_name, suffix, status, " ".join(reason.split())[:200])


def main() -> None:
    orders, reports = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints is no part of a frame
    setting = json.loads(orders.readline())
    _end_with(setting["parent"])
    warnings.simplefilter("ignore")  # what a file's warnings mean, its measures say
    module, name = setting["open_file"]
    open_it: OpenFile = getattr(importlib.import_module(module), name)
    _limit_memory(setting["memory"])
    gc.disable()  # nothing here makes cycles, and a file's share of the collections is not free
    with mmap.mmap(setting["state"], 0) as state:
        report = _Report(reports, state, setting["slot"] * STATE.size)
        limits = Limits(**setting["limits"])
        _work(orders, report, lambda name, sha: open_it(Path(setting["folder"]), name, limits, sha))


def _work(orders: BinaryIO, report: _Report, open_it: Callable[[str, str | None], Opened]) -> None:
    report.at(IDLE)
    number = 0
    for line in orders:
        order = json.loads(line)
        group: list[Opened] = []
        size = 0
        for file_name, sha256 in order["files"]:
            report.at(number)
            try:
                opened = open_it(file_name, sha256)
            except Exception as error:  # noqa: BLE001 (ours, but one file must not end the run)
                opened = Opened(report.defect(file_name, error))
            group.append(opened)
            size += _size(opened)
            if order["alone"] or len(group) >= _GROUP or size >= _GROUP_BYTES:
                _complete(group, report)
                group, size = [], 0
            number += 1
        _complete(group, report)
        report.at(IDLE)
        report.flush()


def _size(opened: Opened) -> int:
    """Bytes that the image takes, as Pillow holds it."""
    if opened.decoded is None:
        return 0
    image = opened.decoded.image
    return image.width * image.height * (1 if image.mode in {"1", "L", "P"} else 4)


def _complete(group: list[Opened], report: _Report) -> None:
    """Measure the images of ``group``, and report all of it."""
    try:
        measure_pixels(group)
    except Exception as error:  # noqa: BLE001 (as above)
        if len(group) > 1:
            for opened in group:
                _complete([opened], report)
            return
        group = [Opened(report.defect(group[0].measures.file_name, error))]
    for opened in group:
        report.add(opened.measures)


class _Report:
    """Gathers rows into frames, and says in shared memory which file is being read."""

    def __init__(self, out: BinaryIO, state: mmap.mmap, offset: int) -> None:
        self._out, self._state, self._offset = out, state, offset
        self._rows: list[tuple[Any, ...]] = []
        self._fingerprints: list[bytes] = []
        self._last = time.monotonic_ns()
        self._defective = False

    def at(self, number: int) -> None:
        self._now = time.monotonic_ns()
        STATE.pack_into(self._state, self._offset, number, self._now)

    def add(self, row: Measures) -> None:
        self._rows.append(row_of(row))
        if row.fingerprint is not None:
            self._fingerprints.append(row.fingerprint)
        if len(self._rows) >= _ROWS_A_FRAME or self._now - self._last > _SECONDS_A_FRAME * 1e9:
            self.flush()

    def defect(self, file_name: str, error: Exception) -> Measures:
        """What to report of a file that our own code fails at; the parent logs the first."""
        if not self._defective:
            self._defective = True
            self.flush()
            self.send({"defect": "".join(traceback.format_exception(error))}, b"")
        return lost(file_name, "crashed", f"{DEFECT}: {error!r}")

    def flush(self) -> None:
        if self._rows:
            self.send({"rows": self._rows}, b"".join(self._fingerprints))
            self._rows, self._fingerprints = [], []
        self._last = time.monotonic_ns()

    def send(self, message: dict[str, Any], fingerprints: bytes) -> None:
        text = json.dumps(message).encode()
        frame = memoryview(HEADER.pack(len(text), len(fingerprints)) + text + fingerprints)
        while frame:
            frame = frame[self._out.write(frame) :]


def _end_with(parent: int) -> None:
    """Do not outlive ``parent``, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _limit_memory(megabytes: int) -> None:
    """Allow ``megabytes`` beyond what is in use now, where the system can tell and hold it."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return
    import resource

    used = int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is a row, not a file of gigabytes
    with contextlib.suppress(OSError):  # where memory runs out, rather this process than another
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


if __name__ == "__main__":
    main()
