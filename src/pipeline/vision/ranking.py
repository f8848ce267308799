"""The area under a ROC curve of thousands of resamples at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Ranking:
    """The images of one class among all others, by their score for that class.

    The larger side is a ladder whose steps end where the smaller side's images stand: between two
    of them only a sum is asked for, so no resample needs more than that.
    """

    few: NDArray[np.int64]
    """(P,): the images of the smaller side, in any order."""
    many: NDArray[np.int64]
    """(Q,): all others, from the worst to the best place against ``few``."""
    starts: NDArray[np.int64]
    """(S,): where in ``many`` the steps begin, ascending."""
    below: NDArray[np.int64]
    """(P,): how many whole steps each of ``few`` is above."""
    not_above: NDArray[np.int64] | None
    """(P,): with those at its own height; ``None`` where that is ``below``, without ties."""

    @classmethod
    def of(cls, scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> Ranking:
        if 2 * np.count_nonzero(positive) > len(positive):
            # The area is the same with both signs turned.
            scores, positive = -scores, ~positive
        few, others = np.flatnonzero(positive), np.flatnonzero(~positive)
        many = others[np.argsort(scores[others], kind="stable")]
        ladder = scores[many]
        below = np.searchsorted(ladder, scores[few], side="left")
        not_above = np.searchsorted(ladder, scores[few], side="right")
        edges = np.unique(np.concatenate([[0], below, not_above]))
        starts = edges[edges < len(many)]
        tied = bool((below != not_above).any())
        steps, own = (np.searchsorted(starts, each) for each in (below, not_above))
        return cls(few, many, starts, steps, own if tied else None)

    def pairs(self, counts: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pairs of the two sides that are ranked right, ties as halves, and all pairs: (...) each.

        Args:
            counts: (..., N), how often each image occurs.
        """
        found = np.take(counts, self.few, axis=-1)
        climbed = np.zeros((*found.shape[:-1], len(self.starts) + 1), dtype=np.float32)
        if len(self.starts):
            others = np.take(counts, self.many, axis=-1)
            steps = np.add.reduceat(others, self.starts, axis=-1)
            np.cumsum(steps, axis=-1, out=climbed[..., 1:])
        beaten = np.take(climbed, self.below, axis=-1)
        if self.not_above is not None:
            beaten = (beaten + np.take(climbed, self.not_above, axis=-1)) / 2
        won = np.einsum("...i,...i->...", beaten, found, dtype=np.float64)
        return won, found.sum(axis=-1, dtype=np.float64) * climbed[..., -1]
