"""Which images are copies of each other."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def exact_clusters(pixel_hashes: Iterable[str | None]) -> NDArray[np.int64]:
    """A number for each image, equal where the pixels are equal; -1 where there are none.

    Numbered from 0 in the order of first occurrence, so that sorted input gives stable numbers.
    """
    numbers: dict[str, int] = {}
    return np.array(
        [-1 if key is None else numbers.setdefault(key, len(numbers)) for key in pixel_hashes],
        dtype=np.int64,
    )
