"""Two models on the same images: how they differ, and on which images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.bootstrap import Interval, Resampling, paired_bootstrap
from pipeline.evaluation.significance import mcnemar
from pipeline.vision.metrics import Sample, finite

SHOWN = 200
"""Images named at most in each direction."""


@dataclass(frozen=True)
class Flip:
    """An image that one model has right and the other wrong."""

    file_name: str
    truth: str
    mistaken_for: str


@dataclass(frozen=True)
class Duel:
    """What distinguishes the first model from the second."""

    first: str
    second: str
    images: int
    difference: Interval
    """Of the metric, first minus second (paired bootstrap)."""
    only_first: int
    """Images that the first alone has right."""
    only_second: int
    p_value: float
    """McNemar's test that both are right equally often."""
    won: tuple[Flip, ...]
    """What only the first has right, the first `SHOWN` by name."""
    lost: tuple[Flip, ...]
    grouped: bool = False
    """Some images are related, which McNemar's test does not know."""

    def as_json(self) -> dict[str, Any]:
        """Without the images' names."""
        return {
            "images": self.images,
            "difference": self.difference.as_json(),
            "only_first": self.only_first,
            "only_second": self.only_second,
            "mcnemar_p": finite(self.p_value),
        }


def duel(
    names: tuple[str, str],
    samples: tuple[Sample, Sample],
    file_names: Sequence[str],
    classes: tuple[str, ...],
    *,
    metric: str,
    resampling: Resampling,
) -> Duel:
    """Compare two models on the same N images.

    Args:
        names: of the models.
        samples: what each said; their images are the same, in the same order.
        file_names: (N,).
        classes: the names of the classes.
        metric: a key of `METRICS`.
        resampling: of the bootstrap.
    """
    first, second = samples
    only_first, only_second = first.correct & ~second.correct, second.correct & ~first.correct

    def flips(which: np.ndarray[Any, np.dtype[np.bool_]], mistaken: Sample) -> tuple[Flip, ...]:
        positions: list[int] = np.flatnonzero(which).tolist()
        found = sorted(positions, key=lambda i: file_names[i])[:SHOWN]
        return tuple(
            Flip(file_names[i], classes[first.targets[i]], classes[mistaken.predicted[i]])
            for i in found
        )

    return Duel(
        *names,
        images=len(first),
        difference=paired_bootstrap(
            metric,
            first.targets,
            first.probabilities,
            second.probabilities,
            weights=first.weights,
            groups=first.groups,
            resampling=resampling,
        ),
        only_first=int(only_first.sum()),
        only_second=int(only_second.sum()),
        p_value=mcnemar(int(only_first.sum()), int(only_second.sum())),
        won=flips(only_first, second),
        lost=flips(only_second, first),
        grouped=first.groups is not None,
    )
