"""Temperature scaling: one number that makes a network as sure as it is right.

Guo et al., On calibration of modern neural networks, 2017 (arXiv:1706.04599). The logits are
divided by a temperature before the softmax: above 1 the network gets less sure, and what it
answers stays the same.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from pipeline.artifacts import read_json, write_json
from pipeline.errors import PipelineError
from pipeline.vision.metrics import Floats

FILE = "calibration.json"
COLDEST, HOTTEST = 0.05, 20.0
_STEPS = 60
"""Halvings of the range of log T: to one part in 10**16."""


@dataclass(frozen=True)
class Calibration:
    """The temperature of the network with ``weights_sha256``."""

    temperature: float
    weights_sha256: str

    @classmethod
    def read(cls, path: Path) -> Calibration:
        """Read what `write` wrote.

        Raises:
            PipelineError: the file is missing, or says no temperature.
        """
        try:
            fields = read_json(path)
            found = cls(float(fields["temperature"]), str(fields["weights_sha256"]))
        except (json.JSONDecodeError, UnicodeDecodeError, LookupError, TypeError, ValueError):
            found = cls(math.nan, "")
        if not COLDEST <= found.temperature <= HOTTEST:
            raise PipelineError(
                f"{path}: expected a temperature from {COLDEST} to {HOTTEST} and the digest of its"
                " weights; run 'dvc repro' to evaluate anew"
            )
        return found

    def write(self, path: Path) -> None:
        write_json(path, {"temperature": self.temperature, "weights_sha256": self.weights_sha256})


def read_temperature(folder: Path) -> float:
    """The temperature of the model in ``folder``; 1.0 where it has none.

    Raises:
        PipelineError: the file is damaged.
    """
    path = folder / FILE
    return Calibration.read(path).temperature if path.is_file() else 1.0


def softmax(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """(N, K) probabilities of ``logits`` (N, K) divided by ``temperature``."""
    given = np.asarray(logits, dtype=np.float64)
    shifted = np.exp((given - given.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def rescale(probabilities: Floats, temperature: float) -> Floats:
    """What probabilities (N, K) at temperature 1 are at ``temperature``."""
    return softmax(log_probabilities(probabilities), temperature)


def log_probabilities(probabilities: Floats) -> Floats:
    """(N, K) logits of which ``probabilities`` are the softmax; one of 0 counts as the smallest
    that float32 holds."""
    smallest = float(np.finfo(np.float32).smallest_subnormal)
    return np.asarray(np.log(np.maximum(probabilities, smallest)))


def fit_temperature(logits: ArrayLike, targets: ArrayLike) -> float:
    """The temperature at which ``targets`` (N,) are most likely under ``logits`` (N, K).

    The negative log-likelihood is convex in 1 / T, so its derivative changes sign once and is
    found by bisection, whatever the logits. Rounded to six decimals, which no order of summation
    changes.

    Returns:
        From `COLDEST` to `HOTTEST`. 1.0 where no prediction is wrong: the likelihood then grows
        with every step to the cold and says nothing.
    """
    given = np.asarray(logits, dtype=np.float64)
    wanted = np.asarray(targets, dtype=np.int64)
    if not len(given):
        return 1.0
    truth = np.take_along_axis(given, wanted[:, None], axis=1)
    if (truth[:, 0] >= given.max(axis=1)).all():
        return 1.0
    deficit = given - truth  # (N, K)

    def too_sure(temperature: float) -> bool:
        """Whether a higher temperature makes the targets more likely."""
        return float((softmax(given, temperature) * deficit).sum()) > 0.0

    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if too_sure(math.exp(middle)):
            low = middle
        else:
            high = middle
    return round(min(max(math.exp((low + high) / 2), COLDEST), HOTTEST), 6)
