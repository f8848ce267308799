"""Scan: images per second beside decoding alone and cleanvision, and what a second scan costs.

All work on the same files with two processes, each in a fresh process of its own, in turns.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from typing import Any

from benchmarks.data_images import CACHE, make_jpegs, make_workspace, write_listing
from benchmarks.peers import peer_python, peer_version
from benchmarks.results import PROJECT, SPEED, beside, spread
from pipeline.workspace import Workspace

KINDS = {
    "cells": "solar cells, PNG 300×300",
    "L": "JPEG 640×480, grey",
    "RGB": "JPEG 640×480, colour",
}
CELLS = 2_624
NEW_SHARE = 0.01


def rows(images: int = 10_000, repeats: int = 5) -> list[dict[str, Any]]:
    """Images per second of all three, on the cells and on ``images`` JPEGs, grey and in colour."""
    table = []
    for kind, case in KINDS.items():
        count = min(images, CELLS) if kind == "cells" else images
        workspace = make_workspace(CACHE / f"{kind}-{count}", kind, count)
        runs: dict[str, list[float]] = {"scan": [], "decode": [], "cleanvision": []}
        for i in range(repeats):
            names = list(runs)
            for name in names[i % 3 :] + names[: i % 3]:
                runs[name].append(count / COMMANDS[name](workspace))
        table.append(beside(case, *SPEED, runs["scan"], runs["decode"], "Pillow, decoding alone"))
        peer = peer_version("cleanvision")
        table.append(beside(case, *SPEED, runs["scan"], runs["cleanvision"], peer))
    return [asdict(row) for row in table]


def rescan_rows(images: int = 10_000, repeats: int = 5) -> list[dict[str, Any]]:
    """Seconds of a scan that knows nothing, of the next one, and of one with 1 % new files."""
    workspace = make_workspace(CACHE / f"L-{images}", "L", images)
    new = range(images, images + max(1, round(images * NEW_SHARE)))
    cold, unchanged, grown = [], [], []
    for _ in range(repeats):
        cold.append(scan_anew(workspace))
        unchanged.append(_seconds(_ours("scan_once", workspace)))
        make_jpegs(workspace.data / "images", "L", new)
        write_listing(workspace)
        grown.append(_seconds(_ours("scan_once", workspace)))
        for number in new:
            (workspace.data / "images" / f"{number:06}.jpg").unlink()
        write_listing(workspace)
    shares = (
        ("unchanged", unchanged),
        (f"{NEW_SHARE:.0%} new files", grown),
    )
    case = f"{images:,} JPEGs 640×480"
    table = [spread(f"{case}, first scan", "time", "s", cold)]
    for name, seconds in shares:
        table.append(spread(f"{case}, {name}", "time", "s", seconds))
        of_cold = [a / b for a, b in zip(seconds, cold, strict=True)]
        table.append(spread(f"{case}, {name}", "share of the first scan", "", of_cold))
    return [asdict(row) for row in table]


def scan_anew(workspace: Workspace) -> float:
    shutil.rmtree(workspace.state, ignore_errors=True)
    return _seconds(_ours("scan_once", workspace))


def _decode(workspace: Workspace) -> float:
    return _seconds(_ours("decode_once", workspace))


def _cleanvision(workspace: Workspace) -> float:
    script = PROJECT / "benchmarks" / "cleanvision_once.py"
    return _seconds([peer_python(), str(script), str(workspace.root)])


COMMANDS = {"scan": scan_anew, "decode": _decode, "cleanvision": _cleanvision}


def _ours(module: str, workspace: Workspace) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.{module}", str(workspace.root)]


def _seconds(command: list[str]) -> float:
    """What ``command`` says that it took; on two processors, whatever the machine has."""
    path = os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": path, "TQDM_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_on_two_processors if hasattr(os, "sched_setaffinity") else None,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def _on_two_processors() -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
