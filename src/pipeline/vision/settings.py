"""The settings of augmentations: their ranges, and objects made from what ``params.yaml`` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, field, fields
from typing import Any, TypeVar

from pipeline.errors import ConfigurationError, did_you_mean

Part = TypeVar("Part")


def setting(low: float, high: float, *, default: float | None = 0.0, whole: bool = False) -> Any:
    """A setting, allowed from ``low`` to ``high``; ``whole`` if only whole numbers are.

    Left out it is ``default``; with ``None`` it must be given.
    """
    metadata = {"low": low, "high": high, "whole": whole}
    return (
        field(metadata=metadata) if default is None else field(default=default, metadata=metadata)
    )


def build(kind: type[Part], values: Mapping[str, float], *, where: str) -> Part:
    """An object of the dataclass ``kind``, whose fields are all made by `setting`.

    Raises:
        ConfigurationError: a key is unknown or missing, or a value outside its range.
    """
    allowed = settings_of(kind)
    ranges = ", ".join(
        f"{name} ({'whole, ' if m['whole'] else ''}{m['low']:g} to {m['high']:g})"
        for name, m in ((item.name, item.metadata) for item in allowed.values())
    )
    for key, value in values.items():
        if key not in allowed:
            hint = did_you_mean(key, allowed) or ";"
            raise ConfigurationError(f"{where}.{key} is not a setting{hint} allowed: {ranges}")
        limits = allowed[key].metadata
        inside = limits["low"] <= value <= limits["high"]
        if not inside or (limits["whole"] and value != round(value)):
            raise ConfigurationError(f"{where}.{key}: {value:g} is not allowed, expected {ranges}")
    try:
        return kind(**values)
    except TypeError:
        raise ConfigurationError(f"{where} needs all of {ranges}") from None


def has_effect(part: object) -> bool:
    """Whether ``part`` can change an image: a probability of 0 and strengths of 0 do not."""
    values = {name: getattr(part, name) for name in settings_of(type(part))}
    probability = values.pop("probability", 1.0)
    return probability > 0 and (any(values.values()) or not values)


def settings_of(kind: type[Any]) -> dict[str, Field[Any]]:
    """The settings of a dataclass by their names."""
    return {item.name: item for item in fields(kind)}
