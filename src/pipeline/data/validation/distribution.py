"""How the values of a column are spread, in a few numbers, and how far two spreads are apart.

The distance is the largest difference between the shares of images that the two give to the same
values: of numbers to all values up to some number (the Kolmogorov-Smirnov distance, taken at the
reference's quantiles), of words to any set of words (the total variation distance). Read it as the
least share of images that would have to change for the two to be alike.

Two samples of one spread are never quite alike. `margin` says how far they may be apart by chance,
and what exceeds it is a lower bound of the true distance. Small batches have wide margins, so they
raise no alarm unless nearly all of their images moved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]

ALARM_RATE = 0.01
"""How often at most a comparison of all columns finds a distance where there is none."""

_QUANTILES = np.linspace(0.0, 1.0, 33)
_DIGITS = 6
_RARE_SHARE, _RARE_COUNT = 0.005, 5


class Numbers(BaseModel):
    """A spread of numbers by its quantiles. Missing values count as larger than any number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    values: tuple[float, ...]
    """Ascending: the smallest, the largest and the quantiles between, each once."""
    below: tuple[Share, ...]
    """The share of all images whose value is below each of ``values``."""
    at_most: tuple[Share, ...]
    """The share of those that are at most it."""

    @model_validator(mode="after")
    def _equally_long(self) -> Self:
        ascending = all(a < b for a, b in zip(self.values, self.values[1:], strict=False))
        if not (len(self.values) == len(self.below) == len(self.at_most) > 0 and ascending):
            raise ValueError("values, below and at_most are not of one length, or do not ascend")
        return self

    @classmethod
    def of(cls, column: pd.Series) -> Numbers | None:
        """The spread of ``column``; ``None`` where it has no value."""
        ordered = _ordered(column)
        if not ordered.size:
            return None
        quantiles = np.quantile(ordered, _QUANTILES, method="inverted_cdf")
        points = np.unique(quantiles)
        below, at_most = _shares(ordered, len(column), points)
        return cls(
            values=tuple(points.tolist()),
            below=tuple(below.round(_DIGITS).tolist()),
            at_most=tuple(at_most.round(_DIGITS).tolist()),
        )

    def distance(self, column: pd.Series) -> float:
        below, at_most = _shares(_ordered(column), len(column), np.array(self.values))
        differences = [np.abs(below - self.below), np.abs(at_most - self.at_most)]
        return float(np.max(differences))

    def claims(self, _: pd.Series) -> float:
        """The logarithm of how many statements about shares the distance is the largest of."""
        return math.log(2.0)  # Massart's constant: the whole curve counts as two

    def histogram(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """The share between each two ``edges``, even between the known points."""
        values = np.repeat(self.values, 2)
        shares = np.column_stack([self.below, self.at_most]).ravel()
        return np.diff(np.interp(edges, values, shares, left=0.0))


class Words(BaseModel):
    """A spread of words: the share of each that is not rare; the rest and the missing are one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shares: Mapping[str, Share]

    @classmethod
    def of(cls, column: pd.Series) -> Words:
        counts = column.value_counts()
        counts = counts[counts >= max(_RARE_COUNT, _RARE_SHARE * len(column))]
        common = (counts / max(1, len(column))).round(_DIGITS)
        return cls(shares={str(word): float(common[word]) for word in sorted(common.index)})

    def distance(self, column: pd.Series) -> float:
        return float(np.abs(self._differences(column)).sum() / 2)

    def claims(self, column: pd.Series) -> float:
        kinds = max(2, int(np.count_nonzero(self._differences(column))))
        return kinds * math.log(2.0) if kinds > 50 else math.log(2.0**kinds - 2)

    def _differences(self, column: pd.Series) -> NDArray[np.float64]:
        found = (column.value_counts() / max(1, len(column))).reindex(list(self.shares))
        known = np.array(list(self.shares.values()))
        differences = found.fillna(0.0).to_numpy(dtype=np.float64) - known
        return np.append(differences, -differences.sum())


Spread = Numbers | Words


def spread_of(column: pd.Series) -> Spread | None:
    """The spread of ``column``; ``None`` where it has no value."""
    if column.isna().all():
        return None
    return Numbers.of(column) if is_number(column) else Words.of(column)


def is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column)


def margin(claims: float, comparisons: int, images: int, reference_images: int) -> float:
    """How far two samples of one spread are apart by chance in all of ``comparisons``.

    Exceeded in at most `ALARM_RATE` of the cases: the bound of Dvoretzky, Kiefer and Wolfowitz with
    Massart's constant (1990) for numbers, Hoeffding's (1963) over all sets of words for words,
    both for two samples, and shared out among the comparisons.
    """
    effective = images * reference_images / max(1, images + reference_images)
    if effective == 0:
        return math.inf
    return math.sqrt((claims + math.log(comparisons / ALARM_RATE)) / (2 * effective))


def _ordered(column: pd.Series) -> NDArray[np.float64]:
    return np.sort(column.dropna().to_numpy(dtype=np.float64))


def _shares(
    ordered: NDArray[np.float64], count: int, points: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    below = np.searchsorted(ordered, points, side="left") / max(1, count)
    return below, np.searchsorted(ordered, points, side="right") / max(1, count)
