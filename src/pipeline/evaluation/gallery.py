"""The mistakes a model was most sure of, as small pictures inside a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.pack import Packed
from pipeline.evaluation.predictions import Predictions

MAX_SIDE = 128
"""Pixels; a larger image is shown smaller."""
MAX_BYTES = 2_500_000
"""Of all pictures together, so that the report stays small enough to be sent around."""


@dataclass(frozen=True)
class Mistake:
    """A test image whose predicted class is wrong."""

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


def worst_mistakes(packed: Packed, predictions: Predictions, limit: int) -> list[Mistake]:
    """Up to ``limit`` wrong test images, the most confident first, within `MAX_BYTES`."""
    table, sample = predictions.of_split("test"), predictions.samples["test"]
    wrong = np.flatnonzero(~sample.correct)
    order = wrong[np.argsort(-sample.confidence[wrong], kind="stable")][:limit]
    rows = packed.rows("test")
    mistakes: list[Mistake] = []
    room = MAX_BYTES
    for i in order:
        picture, side = _picture(packed.images[rows[i]])
        room -= len(picture)
        if room < 0:
            break
        target, predicted = sample.targets[i], sample.predicted[i]
        mistakes.append(
            Mistake(
                file_name=str(table["file_name"][i]),
                truth=packed.classes[target],
                predicted=packed.classes[predicted],
                confidence=float(sample.confidence[i]),
                truth_probability=float(sample.probabilities[i, target]),
                picture=picture,
                side=side,
            )
        )
    return mistakes


def _picture(pixels: NDArray[np.uint8]) -> tuple[str, int]:
    """(H, W, C) as a data URI, and its side."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if max(image.size) > MAX_SIDE:
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}", image.width
