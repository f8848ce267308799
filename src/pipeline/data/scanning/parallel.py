"""Files measured in several processes, such that a file which ends or hangs one costs only itself.

A decoder is C code that reads bytes of unknown origin: it may crash, never return, or take all the
memory there is. Each worker says in shared memory which file it is at and since when, so the parent
knows whom to blame: it kills a worker at its file's time limit, starts another in its place, and
gives that one whatever the first had left. No worker outlives its parent (see `worker`).
"""

from __future__ import annotations

import mmap
import selectors
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Self, cast

from pipeline.data.scanning.worker import STATE, lost, row_of
from pipeline.data.scanning.worker_process import CHUNK, Result, Row, Setting, Task, WorkerProcess
from pipeline.errors import PipelineError
from pipeline.machine import processors

__all__ = ["Pool", "Result", "Row", "Setting", "Task"]

_CHUNK_BYTES = 8_000  # two chunks of names fit into a pipe, where a write might wait for ever
_FILES_A_WORKER = 64  # fewer are read sooner than another process starts
_TRIES = 2  # of a file whose process ended: it may have been killed for another's memory
_FRUITLESS = 3  # processes in a row that ended at no file and without a row
_PAUSE = 0.1  # seconds between two looks at the clock
_STOPPED = 2.0  # seconds without a look: this process was stopped, and so perhaps were the others


class Pool:
    """The workers, and what is still to be given to them; a context that leaves none behind.

    ``workers`` is at most how many, by default as many as this process may use processors.
    """

    def __init__(self, setting: Setting, workers: int | None = None) -> None:
        self._setting = setting
        self._slots = workers or processors()
        self._wanted = 0
        self._tasks: Iterator[Task] = iter(())
        self._chunk_size = CHUNK
        self._again: deque[Task] = deque()
        self._deaths: Counter[int] = Counter()  # by task: processes that ended at its file
        self._fruitless = 0
        self._selector = selectors.DefaultSelector()
        self._shared = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 (see __exit__)
        self._shared.truncate(self._slots * STATE.size)
        self._state = mmap.mmap(self._shared.fileno(), 0)
        self._log = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 (see __exit__)
        self._free = list(range(self._slots))
        self._workers: list[WorkerProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.kill()
            worker.output.close()
        self._selector.close()
        self._state.close()
        self._shared.close()
        self._log.close()

    def start(self, count: int) -> None:
        """Start as many processes as ``count`` files are worth, to be ready when they are named."""
        self._wanted = max(self._wanted, min(self._slots, -(-count // _FILES_A_WORKER)))
        while len(self._workers) < self._wanted:
            self._hire()

    def measure(self, tasks: Iterable[Task], count: int) -> Iterator[Result]:
        """The measures of ``tasks``, which are about ``count``, in any order; call it once.

        A task whose file ended its process twice has the status ``crashed``, one that was not done
        in time ``timeout``. The processes are at work from now on.

        Raises:
            PipelineError: from the iterator, where worker processes do not start.
        """
        self.start(count)
        # Of few files each process gets two chunks of the same size.
        self._chunk_size = min(CHUNK, max(1, -(-count // (2 * max(len(self._workers), 1)))))
        self._tasks = iter(tasks)
        self._employ()
        return self._results()

    def _results(self) -> Iterator[Result]:
        looked = time.monotonic_ns()
        while self._employ():
            for key, _ in self._selector.select(_PAUSE):
                worker: WorkerProcess = key.data
                yield from self._receive(worker)
                if worker.ended:
                    yield from self._replace(worker, "crashed")
            now = time.monotonic_ns()
            if now - looked > _STOPPED * 1e9:
                for worker in self._workers:
                    worker.not_before = now
            looked = now
            yield from self._end_late_ones(now)

    def _employ(self) -> bool:
        """Give every worker enough to do, replace those that ended; False when all is done."""
        idle = [worker for worker in self._workers if not worker.out]
        for worker in (*idle, *self._workers):  # nobody gets two while another has none
            if worker.wants_more() and (chunk := self._chunk()):
                worker.give(*chunk)
        while len(self._workers) < self._wanted and (chunk := self._chunk()):
            self._hire().give(*chunk)
        return any(worker.out for worker in self._workers)

    def _hire(self) -> WorkerProcess:
        slot = self._free.pop()
        worker = WorkerProcess(self._setting, self._shared, self._state, slot, self._log)
        self._workers.append(worker)
        self._selector.register(worker.output, selectors.EVENT_READ, worker)
        return worker

    def _chunk(self) -> tuple[list[Task], bool] | None:
        """The next tasks, those that lost their process first and each of them alone."""
        alone = bool(self._again)
        chunk: list[Task] = []
        size = 0
        while len(chunk) < self._chunk_size and size < _CHUNK_BYTES:
            if alone:
                task = self._again.popleft() if self._again else None
            else:
                task = next(self._tasks, None)
            if task is None:
                break
            chunk.append(task)
            size += len(task.file_name.encode())
        return (chunk, alone) if chunk else None

    def _receive(self, worker: WorkerProcess) -> Iterator[Result]:
        for result in worker.receive():
            self._fruitless = 0
            yield result

    def _end_late_ones(self, now: int) -> Iterator[Result]:
        limit = int(self._setting.timeout * 1e9)
        for worker in [worker for worker in self._workers if worker.is_late(now, limit)]:
            worker.kill()
            yield from self._receive(worker)
            # It may have gone on to another file just before it was killed.
            yield from self._replace(worker, "timeout" if worker.is_late(now, limit) else None)

    def _replace(self, worker: WorkerProcess, status: str | None) -> Iterator[Result]:
        """Take the place and the tasks of a worker that ended; ``status`` blames its last file."""
        worker.kill()
        self._selector.unregister(worker.output)
        worker.output.close()
        self._workers.remove(worker)
        self._free.append(worker.slot)
        tasks, at = list(worker.out), worker.at()
        if status is not None and 0 <= at < len(tasks):
            guilty = tasks.pop(at)
            self._deaths[guilty.number] += 1
            if status == "timeout" or self._deaths[guilty.number] >= _TRIES:
                yield Result([guilty.number], [_lost(guilty, status, self._setting)], b"")
            else:
                tasks.insert(0, guilty)  # what stood before it need not be read a third time
        elif status is not None:
            self._fruitless += 1
            if self._fruitless >= _FRUITLESS:
                raise PipelineError(self._no_start())
        self._again.extend(tasks)

    def _no_start(self) -> str:
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        return (
            "scan: the processes that read images end before they begin; run"
            f" '{sys.executable} -m pipeline.data.scanning.worker < /dev/null' to see why"
            + (f" (the last one wrote: {said[-1]})" if said else "")
        )


def _lost(task: Task, status: str, setting: Setting) -> Row:
    """The row of a file that ended its process, or had to be ended with it."""
    if status == "timeout":
        reason = f"not read within {setting.timeout:g} seconds (scan.timeout)"
    else:
        reason = "reading it ended the process: a broken file, or too little memory for it"
    return row_of(lost(task.file_name, status, reason))
