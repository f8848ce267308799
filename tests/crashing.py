"""Work for other processes, most of which ends badly; each process imports it anew."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

from pipeline.data.scanning import measure
from pipeline.data.scanning.measure import Limits, Measures, Opened, open_file

SHA256 = "1" * 64


def misbehave(folder: Path, file_name: str, limits: Limits, known_sha256: str | None) -> Opened:
    """Do at a file what its name says, as a decoder may; else tell that all is well."""
    del limits
    if "segfault" in file_name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "exit" in file_name:
        os._exit(11)
    if "hang" in file_name:
        re.match(r"(a+)+$", "a" * 60 + "b")  # in C, and never letting go of the interpreter's lock
    if "slow" in file_name:
        time.sleep(0.2)
    if "greedy" in file_name:
        bytearray(8 << 30)
    if "defect" in file_name:
        raise ZeroDivisionError(file_name)
    if "once" in file_name and not (folder / "been").exists():
        (folder / "been").touch()
        os._exit(12)
    if "noisy" in file_name:
        os.write(1, b"what a library prints to standard output" * 50)
    return Opened(Measures(file_name, "", error=known_sha256, sha256=SHA256))


def read_at_rest(folder: Path, file_name: str, limits: Limits, known_sha256: str | None) -> Opened:
    """Measure as always, and note it; but take files for settled as soon as they are written."""
    measure._SETTLED = 0
    return read_and_note(folder, file_name, limits, known_sha256)


def read_and_note(folder: Path, file_name: str, limits: Limits, known_sha256: str | None) -> Opened:
    """Measure as always, and add the name and the status to ``read.log``."""
    if "hang" in file_name:
        os._exit(13)
    opened = open_file(folder, file_name, limits, known_sha256)
    with (folder / "read.log").open("a", encoding="utf-8") as file:
        file.write(f"{file_name} {opened.measures.status}\n")
    return opened
