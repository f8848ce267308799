"""Tests of whether a difference may be chance, and their correction where there are several."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.vision.metrics import Floats

EXACT_UP_TO = 1000
"""Discordant pairs up to which McNemar's test adds up the binomial distribution itself."""


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p-value that two classifiers err equally often on the same images.

    Only images count that one of them has right and the other wrong (McNemar, Note on the sampling
    error of the difference between correlated proportions, 1947). Exact, by the binomial
    distribution; with more than `EXACT_UP_TO` such images by chi-squared with Edwards' correction
    for continuity, which then differs by less than can be read.
    """
    from scipy import stats

    pairs = only_first + only_second
    if not pairs:
        return 1.0
    if pairs <= EXACT_UP_TO:
        return float(min(1.0, 2 * stats.binom.cdf(min(only_first, only_second), pairs, 0.5)))
    distance = max(abs(only_first - only_second) - 1, 0)
    return float(stats.chi2.sf(distance**2 / pairs, df=1))


def fewer_right(right: int, images: int, others_right: int, others: int) -> float:
    """One-sided p-value that a part is right as often as the others (Fisher's exact test).

    Small where ``right`` of ``images`` is less than ``others_right`` of ``others`` suggests; 1.0
    where there are none of either.
    """
    from scipy import stats

    if not images or not others:
        return 1.0

    return float(stats.hypergeom.cdf(right, images + others, right + others_right, images))


def holm(p_values: ArrayLike) -> Floats:
    """p-values corrected for being several (Holm, A simple sequentially rejective multiple test
    procedure, 1979): rejecting those below alpha errs in one or more with probability alpha."""
    given: NDArray[np.float64] = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    steps = given[order] * np.arange(len(given), 0, -1)
    corrected = np.empty_like(given)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected
