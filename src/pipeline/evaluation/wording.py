"""Numbers as people read them."""

from __future__ import annotations

from pipeline.evaluation.bootstrap import Interval

_THIN = "\N{NARROW NO-BREAK SPACE}"
UNDEFINED = "–"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as text: 0.853 is 85.3 %, an undefined one a dash."""
    return UNDEFINED if value is None else _minus(f"{100 * value:.{digits}f}{_THIN}%")


def number(value: float | None, in_percent: bool = True) -> str:
    """A value of a metric, in percent or with three decimals."""
    if in_percent or value is None:
        return percent(value)
    return _minus(f"{value:.3f}")


def count(value: float) -> str:
    """A large number with three digits: 0.49 M for 488,000."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{_THIN}{unit}"
    return f"{value:.3g}{_THIN}"


def span(interval: Interval, in_percent: bool = True) -> str:
    """The ends of an interval, for a sentence: 81.7 to 88.8 %."""
    if interval.low is None or interval.high is None:
        return "no interval"
    if in_percent:
        return f"{_minus(f'{100 * interval.low:.1f}')} to {percent(interval.high)}"
    return f"{number(interval.low, False)} to {number(interval.high, False)}"


def short_span(interval: Interval, in_percent: bool = True) -> str:
    """The ends of an interval, for a table whose value says the unit: 81.7 – 88.8."""
    if interval.low is None or interval.high is None:
        return ""
    if in_percent:
        return f"{100 * interval.low:.1f} – {100 * interval.high:.1f}"
    return f"{interval.low:.3f} – {interval.high:.3f}"


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
