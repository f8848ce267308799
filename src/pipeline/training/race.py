"""Which of two ways to make a training step is faster: measured within a budget."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from pipeline.console import logger
from pipeline.training.environment import release_memory
from pipeline.training.plan import Plan

SHARE = 0.02
"""Of the training's time that measuring may take."""
SECONDS = 5.0
"""That it takes at most, unless the fewest rounds of the first race take longer."""
FEWEST, MOST = 2, 6
"""Rounds."""
MIN_GAIN = 1.03
"""What the other way has to be faster by: noise should not decide a close race."""

Step = Callable[[], object]
Rounds = tuple[list[float], list[float]]
"""Seconds of the one way and of the other, round by round."""
T = TypeVar("T")


class Unusable(Exception):
    """A way that cannot make the step."""


class Race:
    """Measures ways to make a step, as long as the training that will follow is worth it.

    Each round has a step of both, so that other work on the machine meets both.
    """

    def __init__(
        self, make_step: Callable[[Plan], Step], *, steps: int, device: torch.device
    ) -> None:
        """
        Args:
            make_step: may raise `Unusable`.
            steps: like those that are measured, in the whole training.
        """
        self._make_step, self._device = make_step, device
        # A GPU is told of the next steps while it makes one: only several show what one takes.
        self._at_once = 5 if device.type == "cuda" else 1
        self._times = steps / self._at_once
        self._start = time.perf_counter()
        self._ready = dict[Plan, Step]()
        self._usual = float("inf")
        """Seconds of a first way, the least that were seen."""
        self._raced = False

    def allowed(self, usual: float) -> float:
        """Seconds that all races may take where a training takes ``usual`` for each measurement."""
        return self._times * SHARE * usual

    def run(self, first: Plan, other: Plan, *, preparation: float = 0.0) -> Rounds | None:
        """The seconds of both; None where measuring would cost more than it may.

        A way that does not fit into memory is left out: the other is None, the first takes for
        ever if the other fits.

        Args:
            preparation: seconds until the other one's step can be measured.
        """
        if self._times * SHARE < 2 * FEWEST + 3:
            return None  # whatever a step takes
        measured = self._unless_left_out(first, lambda: self._measured(first))
        if measured is None:
            if preparation:
                return None
            measured = self._unless_left_out(other, lambda: self._measured(other))
            return None if measured is None else ([float("inf")], [measured[1]])
        warm_up, seconds = measured
        self._usual = min(self._usual, seconds)
        needed = preparation + warm_up + 2 * FEWEST * self._usual
        allowed = self.allowed(self._usual)
        if self._raced:
            allowed = min(allowed, SECONDS + preparation)
        if self._spent + needed > allowed:
            return None
        self._raced = True
        if self._unless_left_out(other, lambda: self._prepare(other)) is None:
            return None
        return self._unless_left_out(other, lambda: self._rounds(first, other))

    def keep(self, way: Plan) -> None:
        """Let go of all other ways' steps: each holds a network and what its batches take."""
        others = self._ready.keys() - {way}
        for other in others:
            del self._ready[other]
        if others:
            release_memory(self._device)

    def _unless_left_out(self, way: Plan, measure: Callable[[], T]) -> T | None:
        """What ``measure`` gives; None where it shows that ``way`` cannot be used here."""
        reason = f"it does not fit into the memory of {self._device}"
        with contextlib.suppress(torch.OutOfMemoryError):
            try:
                return measure()
            except Unusable as error:
                reason = str(error)
        # Not within an `except`, whose error keeps alive all that the way had taken.
        self._ready.pop(way, None)
        release_memory(self._device)
        logger.info("plan: '%s' is left out: %s", way, reason)
        return None

    def _measured(self, way: Plan) -> tuple[float, float]:
        """Seconds of its preparation and of a step."""
        return self._prepare(way), self._seconds(way)

    def _prepare(self, way: Plan) -> float:
        """Make the way's step and run it once: that one is slower than all later ones."""
        start = time.perf_counter()
        if way not in self._ready:
            self._ready[way] = self._make_step(way)
            self._seconds(way)
        return time.perf_counter() - start

    def _rounds(self, first: Plan, other: Plan) -> Rounds | None:
        seconds: Rounds = [], []
        last = 0.0
        for done in range(MOST):
            allowed = self.allowed(self._usual)
            if self._spent + last > (allowed if done < FEWEST else min(allowed, SECONDS)):
                break
            for way, measured in zip((first, other), seconds, strict=True):
                measured.append(self._seconds(way))
            last = seconds[0][-1] + seconds[1][-1]
            self._usual = min(self._usual, seconds[0][-1])
        return seconds if len(seconds[0]) >= FEWEST else None

    @property
    def _spent(self) -> float:
        return time.perf_counter() - self._start

    def _seconds(self, way: Plan) -> float:
        start = time.perf_counter()
        for _ in range(self._at_once):
            self._ready[way]()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - start


def other_wins(first: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the other way is faster, by `MIN_GAIN` and in half of the rounds at least.

    What slows a step down is other work on the machine, so a way's fastest step is its own. The
    rounds tell a faster way from a lucky step.
    """
    won = sum(b < a for a, b in zip(first, other, strict=True))
    return min(other) * MIN_GAIN <= min(first) and 2 * won >= len(first)
