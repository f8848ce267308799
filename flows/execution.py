"""Runs one DVC stage, or one command of the pipeline, as a process of its own.

Between a failing stage and this process stands dvc, which has an exit code and words of its own:
the stage leaves its exit code and message in a file.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows import processes, settings
from pipeline.artifacts import temporary_folder
from pipeline.data.ingestion.dvc_locks import mend
from pipeline.errors import FAILURE_FILE, PipelineError

Emit = Callable[[str], None]


class StageFailed(PipelineError):
    """A stage ended with ``exit_code`` (see `pipeline.errors`); ``message`` is the user's.

    ``passing``: the same stage may well succeed when it is tried again.
    """

    exit_code: int  # type: ignore[misc]  # each failure has its own

    def __init__(self, stage: str, exit_code: int, message: str, *, passing: bool = False) -> None:
        super().__init__(f"{stage}: {message}")
        self.stage, self.exit_code, self.message, self.passing = stage, exit_code, message, passing


@dataclass(frozen=True)
class Outcome:
    """A stage that is done; ``way`` is what DVC did: nothing, a look into its cache, or all."""

    stage: str
    way: Literal["unchanged", "cached", "ran"]
    seconds: float
    last_line: str


def reproduce(
    root: Path, stage: str, *, timeout: float, emit: Emit, environment: Mapping[str, str]
) -> Outcome:
    """Bring the DVC stage ``stage`` (``"split"``, ``"train@resnet18"``) up to date.

    Its ancestors are left alone: the flow has run them. ``emit`` gets each line of it.

    Raises:
        StageFailed: it failed, or took longer than ``timeout`` seconds.
    """
    mend(root)
    command = ["-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
    return _run(root, stage, command, timeout=timeout, emit=emit, environment=environment)


def call(
    root: Path,
    command: Sequence[str],
    *,
    name: str,
    timeout: float,
    emit: Emit,
    environment: Mapping[str, str],
) -> Outcome:
    """Run ``python -m pipeline COMMAND…``, called ``name`` in messages. Raises `StageFailed`."""
    arguments = ["-m", "pipeline", *command]
    return _run(root, name, arguments, timeout=timeout, emit=emit, environment=environment)


def _run(
    root: Path,
    stage: str,
    arguments: Sequence[str],
    *,
    timeout: float,
    emit: Emit,
    environment: Mapping[str, str],
) -> Outcome:
    start = time.monotonic()
    said: list[str] = []
    way: Literal["unchanged", "cached", "ran"] = "ran"

    def on_line(line: str) -> None:
        nonlocal way
        if line == f"Stage '{stage}' didn't change, skipping":
            way = "unchanged"
        elif line.startswith(f"Stage '{stage}' is cached - skipping run"):
            way = "cached"
        line = _TIME.sub("", line)
        if line and not line.startswith(_CHATTER):
            said[:] = [line]
            emit(line)

    with temporary_folder("pipeline-scratch-stage-") as folder:
        failure_file = folder / "failure.json"
        finished = processes.run(
            [sys.executable, *arguments],
            cwd=root,
            environment={**stage_environment(root), **environment, FAILURE_FILE: str(failure_file)},
            timeout=timeout,
            on_line=on_line,
        )
        if processes.CHILDREN.ending:
            raise StageFailed(stage, 1, "was ended with the run")
        if finished.timed_out:
            raise StageFailed(
                stage,
                1,
                f"took longer than {timeout:,.0f} s and was ended; raise flow.stage_timeout in"
                " params.yaml if it needs more",
            )
        if finished.exit_code:
            raise _failure(stage, finished, failure_file)
    seconds = time.monotonic() - start
    return Outcome(stage, way, seconds=seconds, last_line="".join(said))


_TIME = re.compile(r"^\d\d:\d\d:\d\d ")
"""The run's log and the terminal have the time already."""

_CHATTER = (
    "> ",
    "Use `dvc push`",
    "To track the changes with git",
    "To enable auto staging",
    "\tgit add",
    "\tdvc config",
    "Updating lock file",
    "Generating lock file",
    "Data and pipelines are up to date",
    "ERROR: failed to reproduce",  # after the stage has said why
    "WARNING: Process '",  # a killed run's entry in the lock file, which DVC has removed
)
"""What DVC says about itself around a stage."""


def stage_environment(root: Path) -> dict[str, str]:
    """This process's environment with the interpreter's programs and the project's code first."""

    def first(entry: Path, name: str) -> str:
        return os.pathsep.join(filter(None, [str(entry), os.environ.get(name)]))

    return settings.without_prefect(os.environ) | {
        "PATH": first(Path(sys.executable).parent, "PATH"),
        "PYTHONPATH": first(root / "src", "PYTHONPATH"),
        "PYTHONUNBUFFERED": "1",
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GX_ANALYTICS_ENABLED": "false",
    }


def _failure(stage: str, finished: processes.Finished, failure_file: Path) -> StageFailed:
    """What a failed stage has to say: its own message, else its last lines."""
    try:
        left = json.loads(failure_file.read_text(encoding="utf-8"))
        return StageFailed(stage, int(left["exit_code"]), str(left["message"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # It died before it could say why: killed, or a defect with a traceback.
    last = [line for line in finished.last_lines if line][-_LINES_SHOWN:]
    text = "\n".join(last)
    return StageFailed(
        stage,
        finished.exit_code if finished.exit_code in {2, 75} else 1,
        f"ended with exit code {finished.exit_code}; its last lines:\n"
        + "\n".join(f"  {line}" for line in last),
        passing=_passes(finished.exit_code, text),
    )


_LINES_SHOWN = 12
_SIGNALLED = range(129, 193)
"""The exit codes of a process ended by a signal (DVC fails with 255)."""


def _passes(exit_code: int, text: str) -> bool:
    """Whether a failure without a message for the user may pass by itself."""
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return False
    return exit_code in _SIGNALLED or bool(_PASSING.search(text))


_PASSING = re.compile(
    r"exited with -\d+"  # the stage's own process was ended by a signal
    r"|exited with 1(29|3\d|4\d)\b"
    r"|[Uu]nable to acquire lock|is busy, it is being blocked|database is locked"
    r"|\b(OSError|BlockingIOError|ConnectionError|ConnectionResetError|ConnectionRefusedError"
    r"|BrokenPipeError|TimeoutError|InterruptedError)\b"
)
