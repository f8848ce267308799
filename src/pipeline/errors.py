"""The errors a user can cause, each with the exit code it ends the process with.

Every message says what is wrong, where (file, key, row), what was expected and what to do.
Anything else that is raised is a defect of the pipeline and keeps its traceback.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

FAILURE_FILE = "PIPELINE_FAILURE_FILE"
"""Environment variable: where a failing command leaves ``{"exit_code", "message"}`` for the flow,
because between the two stands dvc, which has an exit code of its own."""


class PipelineError(Exception):
    """Something the user can put right; ``str(error)`` is the whole message."""

    exit_code: ClassVar[int] = 1


class ConfigurationError(PipelineError):
    """Wrong usage, or a value in ``params.yaml`` that cannot be used."""

    exit_code = 2


class DataRefused(PipelineError):
    """The data breaks a rule of ``params.yaml``, or cannot be used at all."""

    exit_code = 3


class Busy(PipelineError):
    """Another run holds the workspace (75 is ``EX_TEMPFAIL``: try again later)."""

    exit_code = 75


def of_the_system(error: OSError) -> PipelineError | None:
    """What a user can do about ``error``: a full disk, or no right to a file; None for others."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        where = error.filename or "writing"
        return PipelineError(f"{where}: the disk is full; free some space, then run again")
    if not isinstance(error.filename, str):
        return None
    path = Path(error.filename)
    # Rather the folder than the name of a temporary file that could not be made in it.
    there = next((each for each in (path, *path.parents) if os.path.lexists(each)), path)
    if error.errno == errno.EROFS:
        return PipelineError(
            f"{there}: its file system is read-only; work in a copy that can be written"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return PipelineError(
            f"{there}: permission denied; give this user the right to read and write it"
            " (chown, chmod), or work in a copy"
        )
    return None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'resnet18'?"`` for the nearest of ``known``, or ``""`` if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
