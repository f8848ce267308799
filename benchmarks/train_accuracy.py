"""Accuracy beside other loops: the same network, recipe and images, and seeds of their own.

The images are those of four IDX files, as Fashion-MNIST comes. The test images choose nothing.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from scipy import stats

from benchmarks.loops.case import Case
from benchmarks.peers import peer_version
from benchmarks.results import Row
from benchmarks.train_images import class_folders, idx_images
from benchmarks.train_peers import printed

CASE = Case("small_cnn", side=28, channels=1, images=60_000, batch_size=128, epochs=2, classes=10)
PEERS = {"torchvision_loop": "torchvision"}
"""Lightning's loop computes the same as torchvision's."""


def rows(data: Path, repeats: int = 5, images: int | None = None) -> list[dict[str, Any]]:
    """Our mean accuracy and that of each peer over ``repeats`` seeds, and what lies between them.

    Args:
        data: the folder of the IDX files.
        images: fewer to train on than there are.
    """
    case = replace(CASE, images=min(images or CASE.images, CASE.images), idx_folder=str(data))
    train, test = idx_images(data, "train", case.images), idx_images(data, "t10k")
    classes = [str(number) for number in range(case.classes)]
    name = f"{data.name}-{case.images}"
    case = replace(
        case,
        folder=str(class_folders(name, train, classes)),
        test_folder=str(class_folders(f"{data.name}-test", test, classes)),
    )
    found: dict[str, list[float]] = {loop: [] for loop in ("our_loop", *PEERS)}
    for seed in range(repeats):
        for loop, accuracies in found.items():
            accuracies.append(100 * printed(loop, replace(case, seed=seed))[0])
    table = [_beside(case, data, found["our_loop"], found[peer], peer) for peer in PEERS]
    return [asdict(row) for pair in table for row in pair]


def _beside(
    case: Case, data: Path, ours: list[float], theirs: list[float], peer: str
) -> tuple[Row, Row]:
    name = f"{case.model}, {data.name}, {case.epochs} epochs"
    peer_name = peer_version(PEERS[peer], "train")
    difference = statistics.fmean(ours) - statistics.fmean(theirs)
    interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    return (
        Row(
            *(name, "mean test accuracy", "%", round(statistics.fmean(ours), 2)),
            low=round(min(ours), 2),
            high=round(max(ours), 2),
            repeats=len(ours),
            peer=round(statistics.fmean(theirs), 2),
            peer_name=peer_name,
        ),
        Row(
            *(name, f"difference to {peer_name}", "points", round(difference, 2)),
            low=round(float(interval.low), 2),
            high=round(float(interval.high), 2),
            repeats=len(ours),
        ),
    )
