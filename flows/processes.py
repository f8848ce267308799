"""Child processes whose lines are read as they come, and which never outlive their reason.

Each command runs in a process group of its own below a guard (`flows.guard`): a time-out, a
cancelled run or a dead parent ends all of it, also what the command itself has started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.errors import PipelineError

GRACE = 5.0
"""Seconds a process group has between SIGTERM and SIGKILL."""

_GUARD = Path(__file__).with_name("guard.py")
_TAIL = 40


class ProcessGroup:
    """A command and everything it starts; ``output`` is where its stdout and stderr go."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        output: int | IO[bytes] = subprocess.PIPE,
    ) -> None:
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARD), str(GRACE), *command],
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._ended = False

    @property
    def pid(self) -> int:
        """The id of the group."""
        return self._guard.pid

    def poll(self) -> int | None:
        """The command's exit code (128 + n where signal n ended it), or None while it runs."""
        return self._guard.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Raises ``subprocess.TimeoutExpired``."""
        return self._guard.wait(timeout)

    def lines(self) -> Iterator[str]:
        """What it prints, line by line, until the last process that can print has ended."""
        if self._guard.stdout is None:
            return
        with self._guard.stdout as output:
            for line in output:
                yield line.decode("utf-8", errors="replace").rstrip()

    def terminate(self) -> None:
        """Ask every process of the group to end, without waiting."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)

    def stop(self) -> None:
        """End every process of the group: SIGTERM, then SIGKILL. May be called again."""
        if self._ended:
            return
        if self._guard.returncode is None:
            self.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._guard.wait(GRACE)
        # Also what the command left behind; the group's id is not given away while that lives.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._guard.wait()
        self._ended = True
        if self._guard.stdin is not None:
            self._guard.stdin.close()


class Children:
    """The process groups of this process, so that its main thread can end those of all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[ProcessGroup] = set()
        self._ending = False

    @property
    def ending(self) -> bool:
        """Whether the run is over, and what still ends does so for that reason."""
        return self._ending

    @contextlib.contextmanager
    def ended_on_exit(self) -> Iterator[None]:
        """When the body is left, in whatever way, every group is ended and no new one starts."""
        self._ending = False
        try:
            yield
        finally:
            with self._lock:
                self._ending = True
                groups = list(self._groups)
            for group in groups:
                group.terminate()
            for group in groups:
                group.stop()

    @contextlib.contextmanager
    def start(
        self, command: Sequence[str], *, cwd: Path, environment: Mapping[str, str]
    ) -> Iterator[ProcessGroup]:
        """A running group for the body, ended with it.

        Raises:
            PipelineError: the run is being ended.
        """
        with self._lock:
            if self._ending:
                raise PipelineError("not started: the run is being ended")
            group = ProcessGroup(command, cwd=cwd, environment=environment)
            self._groups.add(group)
        try:
            yield group
        finally:
            group.stop()
            with self._lock:
                self._groups.discard(group)


CHILDREN = Children()


@dataclass(frozen=True)
class Finished:
    """How a command ended, and its last lines."""

    exit_code: int
    timed_out: bool
    last_lines: tuple[str, ...]


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    timeout: float,
    on_line: Callable[[str], None],
) -> Finished:
    """Run ``command`` to its end, or until ``timeout`` seconds are over.

    ``on_line`` is called for each line as it is printed, in a thread of its own.
    """
    tail: deque[str] = deque(maxlen=_TAIL)

    def read(group: ProcessGroup) -> None:
        for line in group.lines():
            tail.append(line)
            on_line(line)

    timed_out = False
    with CHILDREN.start(command, cwd=cwd, environment=environment) as group:
        reader = threading.Thread(target=read, args=(group,), daemon=True)
        reader.start()
        try:
            group.wait(timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            group.stop()
            reader.join()
        return Finished(group.wait(), timed_out, tuple(tail))
