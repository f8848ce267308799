"""The nearest of many embeddings, exactly: products of matrices, with bounded memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 100_000
"""Embeddings compared at a time: up to so many in one product."""
QUERIES = 256
"""Queries at a time: so a block's products take 100 MB at most."""


def nearest(
    embeddings: NDArray[np.float32], queries: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The rows of ``embeddings`` with the highest cosine to each query, and these cosines.

    Both are (Q, count) or fewer where there are fewer embeddings, the nearest first; of equals the
    first row. The search is exact for any number; embeddings may be mapped into memory.

    Args:
        embeddings: (N, D) of length 1.
        queries: (Q, D) of length 1.
        count: at least 1.
    """
    parts = [
        _nearest(embeddings, queries[start : start + QUERIES], min(count, len(embeddings)))
        for start in range(0, len(queries), QUERIES)
    ]
    rows, cosines = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(cosines)


def _nearest(
    embeddings: NDArray[np.float32], queries: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    rows = np.empty((len(queries), 0), np.int64)
    cosines = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(embeddings), BLOCK):
        products = queries @ embeddings[start : start + BLOCK].T
        best = _highest(products, count)
        # The best so far stand first, so they stay first of equals.
        rows = np.hstack([rows, start + best])
        cosines = np.hstack([cosines, np.take_along_axis(products, best, 1)])
        best = _highest(cosines, count)
        rows = np.take_along_axis(rows, best, 1)
        cosines = np.take_along_axis(cosines, best, 1)
    return rows, cosines


def _highest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """(Q, N) -> (Q, count): where the highest of each row are, the highest first, then the first.

    A partition alone would leave open which of equal values it keeps.
    """
    count = min(count, values.shape[1])
    limits = np.partition(values, values.shape[1] - count, axis=1)[:, values.shape[1] - count]
    found = np.empty((len(values), count), np.int64)
    for i, limit in enumerate(limits):
        candidates = np.flatnonzero(values[i] >= limit)
        found[i] = candidates[np.argsort(-values[i, candidates], kind="stable")][:count]
    return found
