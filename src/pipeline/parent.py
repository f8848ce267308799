"""A command ends with the process that started it: where that is killed, nothing is left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PARENT = os.getppid()
_STARTED_BY = ("DVC_STAGE", "PIPELINE_RANKS")
"""Environment variables of stages, which DVC sets, and of a training's several processes."""


def end_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent ends, if it is one that waits for this process.

    Others, as a shell, may end before what they have started. Only Linux tells a child.
    """
    if sys.platform != "linux" or not any(name in os.environ for name in _STARTED_BY):
        return
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != _PARENT:  # it had ended before we asked
        raise SystemExit(128 + signal.SIGTERM)
