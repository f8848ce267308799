"""Where the time of a training step goes: ``train.profile: true``."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch


class Profile:
    """Adds up the seconds of each part of many steps.

    ``enter`` a part, and the time until the next one is its own; ``leave`` ends the last. On a GPU
    events are recorded in its stream and read only by `leave`, after an epoch, so the host still
    waits for nothing; a part is then what the GPU spends on it.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._part: str | None = None
        self._since: Any = None
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._events: list[tuple[str, Any, Any]] = []

    def enter(self, part: str) -> None:
        now = self._now()
        self._end(now)
        self._part, self._since = part, now

    def leave(self) -> None:
        """Waits for the GPU."""
        self._end(self._now())
        self._part = None
        if self._events:
            torch.cuda.synchronize()
        for part, start, end in self._events:
            self._seconds[part] += start.elapsed_time(end) / 1000
        self._events.clear()

    def seconds(self) -> dict[str, float]:
        """By part, in the order in which they were first entered."""
        return dict(self._seconds)

    def _now(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _end(self, now: Any) -> None:
        if self._part is None:
            return
        if self._on_gpu:
            self._events.append((self._part, self._since, now))
        else:
            self._seconds[self._part] += now - self._since


class NoProfile:
    """What a training has that is not profiled."""

    def enter(self, part: str) -> None:
        """Costs a call."""

    def leave(self) -> None:
        """Costs a call."""


def profile_table(seconds: Mapping[str, float], *, steps: int, images: int) -> str:
    """A line for each part, milliseconds a step and its share, and one for the whole step."""
    total = sum(seconds.values())
    lines = [
        f"  {part:<10}{1000 * spent / steps:10.3f} ms{100 * spent / total:7.1f} %"
        for part, spent in (*seconds.items(), ("step", total))
    ]
    return "\n".join([*lines, f"  {images / total:,.0f} images per second"])
