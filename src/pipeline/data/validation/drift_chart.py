"""A column beside the same column of the reference, drawn small."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.validation.check import in_words
from pipeline.data.validation.distribution import Numbers, Spread, Words
from pipeline.data.validation.reference import Comparison

WIDTH, HEIGHT = 280.0, 72.0
_BINS = 28
_BARS = 6


@dataclass(frozen=True)
class Chart:
    """What the page draws; numbers have the paths, words the bars."""

    before: str = ""
    """The reference's histogram as an SVG path, in a box of `WIDTH` by `HEIGHT`."""
    now: str = ""
    ends: tuple[str, str] = ("", "")
    bars: tuple[tuple[str, float, float], ...] = ()
    """Words with their shares in percent, before and now; the rarer ones are left out."""


def draw(comparison: Comparison) -> Chart:
    before, now = comparison.reference, comparison.found
    if isinstance(before, Numbers) and isinstance(now, Numbers):
        return _histograms(before, now)
    return Chart(bars=_bars(before, now))


def _histograms(before: Numbers, now: Numbers) -> Chart:
    low = min(before.values[0], now.values[0])
    high = max(before.values[-1], now.values[-1])
    room = (high - low) / _BINS or 1.0  # half a bin at each side; a constant stands in the middle
    edges = np.linspace(low - room / 2, high + room / 2, _BINS + 1)
    shares = [spread.histogram(edges) for spread in (before, now)]
    tallest = max(float(share.max()) for share in shares) or 1.0
    paths = [_steps(share / tallest) for share in shares]
    return Chart(before=paths[0], now=paths[1], ends=(in_words(low), in_words(high)))


def _steps(heights: NDArray[np.float64]) -> str:
    """A closed path along the tops of the bars; ``heights`` are 0 to 1."""
    across = np.repeat(np.linspace(0.0, WIDTH, len(heights) + 1), 2)
    tops = HEIGHT - (HEIGHT - 4.0) * np.repeat(heights, 2)
    down = np.concatenate([[HEIGHT], tops, [HEIGHT]])
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(across, down, strict=True)) + "Z"


def _bars(before: Spread, now: Spread | None) -> tuple[tuple[str, float, float], ...]:
    was = before.shares if isinstance(before, Words) else {}
    found = now.shares if isinstance(now, Words) else {}
    moved = {word: abs(was.get(word, 0.0) - found.get(word, 0.0)) for word in {*was, *found}}
    words = sorted(moved, key=lambda word: (-moved[word], word))
    return tuple(
        (word, round(100 * was.get(word, 0.0), 1), round(100 * found.get(word, 0.0), 1))
        for word in words[:_BARS]
    )
