"""Images per second of whole epochs, beside the loops that people run today.

The same images, network, batch size and recipe; each run in a fresh process on the same processors,
in turns. A peer gets its best number of workers and the better memory layout, found before.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

from benchmarks.loops.case import Case
from benchmarks.peers import peer_python, peer_version
from benchmarks.results import PROJECT, SPEED, Row, beside
from benchmarks.train_images import CLASSES, cells_at, class_folders

CASES = {
    "small_cnn, 28 px": Case("small_cnn", side=28, channels=1, images=8_192, batch_size=128),
    "ResNet-18, 32 px": Case("torchvision:resnet18", 32, 3, images=2_048, batch_size=64),
    "ResNet-18, 96 px": Case("torchvision:resnet18", 96, 1, images=768, batch_size=32),
    "ResNet-18, 128 px": Case("torchvision:resnet18", 128, 3, images=512, batch_size=32),
}
PEERS = {
    "torchvision_loop": "torchvision, ImageFolder and DataLoader, float32",
    "lightning_loop": "Lightning Trainer, float32",
    "timm_loop": "timm's loader, bfloat16, channels last",
}
FAST = {"timm_loop": {"amp": True, "channels_last": True}}
WORKERS = (0, 1, 2)


def smallest(repeats: int = 5, images: int | None = None) -> list[dict[str, Any]]:
    """A row for each peer of the case with the smallest step; ``images`` makes it smaller."""
    return _rows("small_cnn, 28 px", repeats, images)


def largest(repeats: int = 5, images: int | None = None) -> list[dict[str, Any]]:
    """As `smallest`, of the case with the largest step."""
    return _rows("ResNet-18, 128 px", repeats, images)


def _rows(name: str, repeats: int, images: int | None) -> list[dict[str, Any]]:
    case = CASES[name]
    measured = replace(case, images=min(images or case.images, case.images))
    return [asdict(row) for row in _case(name, measured, repeats)]


def _case(name: str, case: Case, repeats: int) -> list[Row]:
    images = cells_at(case.side, case.channels, case.images)
    name_of_images = f"{case.side}-{case.channels}-{case.images}"
    folder = str(class_folders(name_of_images, images, CLASSES))
    asked = {peer: _best(peer, replace(case, folder=folder)) for peer in PEERS}
    asked["our_loop"] = case
    runs: dict[str, list[float]] = {loop: [] for loop in asked}
    for i in range(repeats):
        order = list(asked)
        for loop in order[i % len(order) :] + order[: i % len(order)]:
            runs[loop].append(_speed(loop, asked[loop]))
    return [
        beside(name, *SPEED, runs["our_loop"], runs[peer], _described(peer, asked[peer]))
        for peer in PEERS
    ]


def _best(peer: str, case: Case) -> Case:
    """The case with the number of workers and the layout by which this peer is fastest."""
    layouts = [FAST[peer]] if peer in FAST else [{"channels_last": last} for last in (False, True)]
    candidates = [replace(case, workers=WORKERS[-1], **options) for options in layouts]
    fastest = max(candidates, key=lambda candidate: _speed(peer, candidate))
    return max(
        (replace(fastest, workers=workers) for workers in WORKERS),
        key=lambda candidate: _speed(peer, candidate),
    )


def _described(peer: str, case: Case) -> str:
    layout = "" if peer in FAST or not case.channels_last else ", channels last"
    package = {"lightning_loop": "lightning", "timm_loop": "timm"}.get(peer, "torchvision")
    version = peer_version(package, "train")
    return f"{PEERS[peer]}{layout}, {case.workers} workers ({version})"


def _speed(loop: str, case: Case) -> float:
    return printed(loop, case)[-1]


def printed(loop: str, case: Case) -> list[float]:
    """What the loop's process prints: the accuracy if it is asked for, then images per second."""
    path = os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])
    python = sys.executable if loop == "our_loop" else peer_python("train")
    done = subprocess.run(
        [python, *case.command(loop)],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{loop}, {case}: ended with {done.returncode}\n{done.stderr}")
    return [float(word) for word in done.stdout.split()]
