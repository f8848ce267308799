"""Numbers of networks as people read them, and where tables are printed to."""

from __future__ import annotations

import sys

from rich.console import Console

_UNBOUNDED = 500


def console_of_tables() -> Console:
    """Standard output: as wide as the terminal, or else as the table needs."""
    width = None if sys.stdout.isatty() else _UNBOUNDED
    return Console(file=sys.stdout, width=width, highlight=False)


def short(count: float) -> str:
    """Three digits and a unit: ``61.7 k``, ``1.81 G``."""
    for power, unit in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if count >= 0.9995 * 10**power:
            value = count / 10**power
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return f"{count:.0f}"


def pair(both: tuple[float, float], sign: str = "×") -> str:
    """``3`` for equal sides, else ``1×7``."""
    rows, columns = both
    return f"{rows:g}" if rows == columns else f"{rows:g}{sign}{columns:g}"


def shape(sides: tuple[int, ...]) -> str:
    """``64 × 28 × 28``."""
    return " × ".join(map(str, sides))
