"""What changes over a training as pure functions of the step or the epoch: a resumed one agrees."""

from __future__ import annotations

import math
from collections.abc import Callable

SIZE_STEP = 16
"""Pixels by which training images grow: each size costs a resizing of them all."""


def one_cycle(step: int, steps: int, warmup: float) -> float:
    """From 1/25 up to 1 and down to 1/10,000, both along a cosine (Smith & Topin 2018)."""
    rising = warmup * steps
    if step < rising:
        return _between(1 / 25, 1.0, step / rising)
    return _between(1.0, 1e-4, (step - rising) / max(steps - 1 - rising, 1.0))


def cosine(step: int, steps: int, warmup: float) -> float:
    """Up in a straight line, then down along a cosine to 0 (Loshchilov & Hutter 2017)."""
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return _between(1.0, 0.0, (step - rising) / max(steps - rising, 1.0))


def constant(step: int, steps: int, warmup: float) -> float:
    """Up in a straight line, then level (Goyal et al. 2017)."""
    return min(1.0, (step + 1) / (warmup * steps + 1))


def _between(start: float, end: float, position: float) -> float:
    """Half a cosine wave from ``start`` at position 0 to ``end`` at position 1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(position, 1.0))) / 2


def size_at(epoch: int, epochs: int, *, start: int, final: int, share: float) -> int:
    """The side of the training images in ``epoch``, from 0: progressive resizing.

    It grows from ``start`` in a straight line, in steps of `SIZE_STEP`, and is ``final`` once
    ``share`` of the epochs are over. Howard 2018 (DAWNBench); Tan & Le 2021 (EfficientNetV2).
    """
    growing = math.ceil(share * epochs)
    if epoch >= growing:
        return final
    return start + (final - start) * epoch // (growing * SIZE_STEP) * SIZE_STEP


SCHEDULES: dict[str, Callable[[int, int, float], float]] = {
    "one_cycle": one_cycle,
    "cosine": cosine,
    "constant": constant,
}
"""name -> f(step, steps, warmup), the share of the peak learning rate at ``step`` of ``steps``;
``warmup`` is the share of the steps in which it rises."""
