"""Test images as small pictures inside a page: the worst mistakes, and each cell's images."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.pack import Packed
from pipeline.evaluation.predictions import Predictions

MAX_SIDE = 128
"""Pixels; a larger image is shown smaller."""
MAX_BYTES = 1_500_000
"""Of all pictures of the mistakes, and of the cells, so that the report can be sent around."""
CELL_IMAGES = 8


@dataclass(frozen=True)
class Shown:
    """A test image and what was said of it."""

    file_name: str
    truth: str
    predicted: str
    confidence: float
    """Probability of the predicted class."""
    truth_probability: float
    picture: str
    """A PNG as a data URI."""
    side: int
    """Of the picture, in pixels."""


@dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix."""

    count: int
    share: float
    """Of the row."""
    shown: tuple[Shown, ...]
    """Some of its images, the most confident first."""


def worst_mistakes(packed: Packed, predictions: Predictions, limit: int) -> list[Shown]:
    """Up to ``limit`` wrong test images, the most confident first, within `MAX_BYTES`."""
    sample = predictions.samples["test"]
    wrong = np.flatnonzero(~sample.correct)
    order = wrong[np.argsort(-sample.confidence[wrong], kind="stable")][:limit]
    return _shown(packed, predictions, order, _Room(MAX_BYTES))


def confusion_cells(packed: Packed, predictions: Predictions) -> list[list[Cell]]:
    """(K, K) cells, rows by the true class, with up to `CELL_IMAGES` images each.

    Mistakes have their pictures first: what `MAX_BYTES` leaves no room for has none.
    """
    sample, size = predictions.samples["test"], len(predictions.classes)
    room = _Room(MAX_BYTES)
    pictures: dict[tuple[int, int], list[Shown]] = {}
    for row, column in sorted(np.ndindex(size, size), key=lambda cell: cell[0] == cell[1]):
        inside = np.flatnonzero((sample.targets == row) & (sample.predicted == column))
        order = inside[np.argsort(-sample.confidence[inside], kind="stable")][:CELL_IMAGES]
        pictures[row, column] = _shown(packed, predictions, order, room)
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (sample.targets, sample.predicted), 1)
    whole = counts.sum(axis=1).clip(min=1)
    return [
        [
            Cell(
                int(counts[row, column]),
                float(counts[row, column] / whole[row]),
                tuple(pictures[row, column]),
            )
            for column in range(size)
        ]
        for row in range(size)
    ]


def data_uri(pixels: NDArray[np.uint8]) -> tuple[str, int]:
    """(H, W, C) as a PNG inside a data URI, and its side, at most `MAX_SIDE`."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if max(image.size) > MAX_SIDE:
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}", image.width


@dataclass
class _Room:
    """Bytes that pictures may still take."""

    left: int


def _shown(
    packed: Packed, predictions: Predictions, order: Iterable[int], room: _Room
) -> list[Shown]:
    """The test images at the positions ``order``, as long as there is room."""
    table, sample = predictions.of_split("test"), predictions.samples["test"]
    rows = packed.rows("test")
    shown: list[Shown] = []
    for i in order:
        picture, side = data_uri(packed.images[rows[i]])
        if len(picture) > room.left:
            break
        room.left -= len(picture)
        target, predicted = sample.targets[i], sample.predicted[i]
        shown.append(
            Shown(
                file_name=str(table["file_name"][i]),
                truth=packed.classes[target],
                predicted=packed.classes[predicted],
                confidence=float(sample.confidence[i]),
                truth_probability=float(sample.probabilities[i, target]),
                picture=picture,
                side=side,
            )
        )
    return shown
