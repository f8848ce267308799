"""Checks of the arguments that a network is built with; the messages begin with the key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.errors import ConfigurationError, did_you_mean


def choice(key: str, value: object, known: Iterable[str]) -> str:
    """``value``, which must be one of ``known``.

    Raises:
        ConfigurationError: it is none; the message has the nearest match.
    """
    names = list(known)
    if isinstance(value, str) and value in names:
        return value
    hint = did_you_mean(value, names) if isinstance(value, str) else ""
    raise ConfigurationError(
        f"architecture.{key} is {value!r}{hint or ';'} there are: {', '.join(names)}"
    )


def whole(key: str, value: object, *, low: int, high: int) -> int:
    """``value``, which must be a whole number from ``low`` to ``high``.

    Raises:
        ConfigurationError: it is not.
    """
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise ConfigurationError(
        f"architecture.{key} is {value!r}, expected a whole number from {low} to {high}"
    )


def whole_numbers(key: str, value: object, *, low: int, high: int) -> list[int]:
    """``value``, which must be a list of whole numbers from ``low`` to ``high``.

    Raises:
        ConfigurationError: it is not.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigurationError(
            f"architecture.{key} is {value!r}, expected a list such as [300, 100]"
        )
    return [whole(f"{key}[{i}]", number, low=low, high=high) for i, number in enumerate(value)]


def number(key: str, value: object, *, low: float, high: float) -> float:
    """``value``, which must be a number from ``low`` to below ``high``.

    Raises:
        ConfigurationError: it is not.
    """
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if numeric and low <= float(value) < high:  # type: ignore[arg-type]
        return float(value)  # type: ignore[arg-type]
    raise ConfigurationError(
        f"architecture.{key} is {value!r}, expected a number from {low:g} to below {high:g}"
    )


def switch(key: str, value: object) -> bool:
    """``value``, which must be true or false.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(value, bool):
        return value
    raise ConfigurationError(f"architecture.{key} is {value!r}, expected true or false")
