"""Copies of training images, moved by a few pixels: stored once instead of drawn at random.

Nielsen, Neural networks and deep learning, 2015, chapter 6, has MNIST moved by one pixel so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.data.pixels import Pixels

DIRECTIONS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
"""Where the content goes, in (rows, columns)."""


def copies_of(index: pd.DataFrame, pixels: int) -> pd.DataFrame:
    """The rows of the copies: all training images moved up, then all of them down, and so on.

    An ``image_id`` is derived from the original's, so that a copy has random numbers of its own.
    All else is the original's. None at all for 0 ``pixels``.
    """
    train = index[index["split"] == "train"]
    parts = [
        train.assign(image_id=[_derived(text, name, pixels) for text in train["image_id"]])
        for name in (DIRECTIONS if pixels else ())
    ]
    return pd.concat(parts, ignore_index=True) if parts else index.iloc[:0]


def _derived(image_id: str, direction: str, pixels: int) -> str:
    return hashlib.sha256(f"{image_id} {direction} {pixels}".encode()).hexdigest()


def moved_copies(
    originals: Pixels, train: NDArray[np.int64], pixels: int, *, chunk: int
) -> Iterator[Pixels]:
    """The pixels of `copies_of`, in its order, in chunks of at most so many images.

    Args:
        originals: (N, H, W, C), of which ``train`` are the rows to copy.
        pixels: 0 for no copies, at most the shorter side.
    """
    if not pixels:
        return
    for down, right in DIRECTIONS.values():
        for start in range(0, len(train), chunk):
            yield moved(originals[train[start : start + chunk]], down * pixels, right * pixels)


def moved(images: Pixels, down: int, right: int) -> Pixels:
    """(N, H, W, C) moved by whole pixels; what comes in is the mirrored border."""
    for axis, distance in ((1, down), (2, right)):
        side = images.shape[axis]
        place = np.arange(side) - distance
        place = np.where(place < 0, -1 - place, place)
        place = np.where(place >= side, 2 * side - 1 - place, place)
        images = images.take(place, axis=axis)
    return images
