"""Which images are copies of each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


def near_clusters(
    phashes: Sequence[str | None], fingerprints: NDArray[np.uint8], exact: NDArray[np.int64]
) -> NDArray[np.int64]:
    """A number for each image, equal for near duplicates, exact ones included; -1 where none.

    Numbered from 0 in the order of first occurrence.
    """
    parent = list(range(len(phashes)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    first: dict[object, int] = {}
    for i, (phash, cluster) in enumerate(zip(phashes, exact.tolist(), strict=True)):
        if cluster < 0:
            continue
        for key in (cluster, phash):
            j = root(first.setdefault(key, i))
            a, b = fingerprints[i].astype(float), fingerprints[j].astype(float)
            if key == cluster or np.corrcoef(a, b)[0, 1] > 0.999:
                parent[max(root(i), j)] = min(root(i), j)
    numbers: dict[int, int] = {}
    return np.array(
        [
            -1 if cluster < 0 else numbers.setdefault(root(i), len(numbers))
            for i, cluster in enumerate(exact.tolist())
        ],
        dtype=np.int64,
    )
