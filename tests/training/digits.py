"""Digits of seven segments in noise, as packed data: many of them, and few that have a label."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.artifacts import write_json
from pipeline.data.pack import Packed

SIZE = 16
IMAGES, TEST = 4000, 500
NOISE = 0.4
"""Standard deviation; a segment is 0.5 to 1 brighter than the ground."""
DIGITS = {"2": "abged", "3": "abgcd", "5": "afgcd", "6": "afgedc"}
"""The segments that are lit, by their usual letters."""
LINES = {
    "a": (0, 0, 0, 5),
    "b": (0, 5, 5, 5),
    "c": (5, 5, 10, 5),
    "d": (10, 0, 10, 5),
    "e": (5, 0, 10, 0),
    "f": (0, 0, 5, 0),
    "g": (5, 0, 5, 5),
}
"""From (row, column) to (row, column)."""


def unlabelled(folder: Path) -> Packed:
    """`IMAGES` of them, of which 200 are for validation. Their labels should change nothing."""
    split = np.where(np.arange(IMAGES) < IMAGES - 200, "train", "val")
    return _write(folder, np.arange(IMAGES), split)


def labelled(folder: Path, *, seed: int) -> Packed:
    """1 % of these, 32 to learn from and 8 for validation, and `TEST` others called test."""
    pool = IMAGES // len(DIGITS)
    chosen = np.random.default_rng(seed).permutation(pool)[: pool // 100]
    rows = (len(DIGITS) * chosen[:, None] + np.arange(len(DIGITS))).ravel()
    split = np.repeat(["train", "val", "test"], [32, 8, TEST])
    return _write(folder, np.concatenate([rows, np.arange(IMAGES, IMAGES + TEST)]), split)


def _draw(targets: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(N, SIZE, SIZE, 1), each class as often as any other."""
    rng = np.random.default_rng(0)
    images = np.zeros((len(targets), SIZE, SIZE))
    for image, target in zip(images, targets, strict=True):
        for segment in list(DIGITS.values())[target]:
            row, column, last_row, last_column = LINES[segment]
            image[2 + row : 3 + last_row, 5 + column : 6 + last_column] = 1.0
    images *= rng.uniform(0.5, 1.0, (len(images), 1, 1))
    images += rng.normal(0.0, NOISE, images.shape)
    return (images.clip(0, 1) * 255).round().astype(np.uint8)[..., None]


def _write(folder: Path, rows: NDArray[np.int64], split: NDArray[np.str_]) -> Packed:
    targets = np.arange(IMAGES + TEST) % len(DIGITS)
    everything = _draw(targets)
    images = everything[rows]
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images)
    index = pd.DataFrame(
        {
            "image_id": [hashlib.sha256(image.tobytes()).hexdigest() for image in images],
            "file_name": [f"images/{row:04d}.png" for row in rows],
            "label": [list(DIGITS)[target] for target in targets[rows]],
            "target": targets[rows],
            "weight": np.ones(len(rows), np.float32),
            "split": split,
        }
    )
    index.to_parquet(folder / "index.parquet", index=False)
    write_json(
        folder / "packed.json",
        {
            "image_size": SIZE,
            "channels": 1,
            "classes": list(DIGITS),
            "mean": [float((everything / 255).mean())],
            "std": [float((everything / 255).std())],
            "images": len(rows),
            "extra_columns": [],
            "digest": hashlib.sha256(images.tobytes()).hexdigest(),
        },
    )
    return Packed.load(folder)
