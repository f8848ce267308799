"""Runs a command and ends its whole process group should the parent die, however it dies.

``python -I -S guard.py GRACE COMMAND…``. The parent starts this script in a session of its own and
holds the write end of its standard input: the kernel closes that with the parent, and reading then
finds the end. No part of the project is imported, so that a guard starts in some 20 ms.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time


def main(grace: float, command: list[str]) -> int:
    # A handler of our own, not SIG_IGN: the command would inherit that. The parent ends the group
    # by SIGTERM; the guard stays until the command is gone, to report how it ended.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127
    watch = threading.Thread(target=_end_with_parent, args=(grace, child), daemon=True)
    watch.start()
    code = child.wait()
    if _parent_is_gone.is_set():
        watch.join()
    return code if code >= 0 else 128 - code


_parent_is_gone = threading.Event()


def _end_with_parent(grace: float, child: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    _parent_is_gone.set()
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while child.returncode is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(0, signal.SIGKILL)  # what is left, this guard included


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
