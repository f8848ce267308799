"""How many images may be computed at a time."""

from __future__ import annotations

_PIXELS = 128**2


def at_a_time(most: int, height: int, width: int) -> int:
    """``most`` images of up to 128 x 128 pixels; of larger ones as many as have no more pixels in
    all, and at least one."""
    return max(1, min(most, most * _PIXELS // (height * width)))
