"""The section ``augment``, and what a policy of augmentations is."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from pipeline.params.base import Section


def _policy(value: Any) -> Any:
    """Refuse what is neither form; pydantic would complain of both in the words of its types."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is not allowed, expected a name or a section")
    for name, settings in value.items():
        if not isinstance(settings, dict):
            raise ValueError(f"{name}: {settings!r} is not allowed, expected a section of settings")
        for key, number in settings.items():
            numeric = isinstance(number, int | float) and not isinstance(number, bool)
            if not numeric or not math.isfinite(number):
                raise ValueError(f"{name}.{key}: {number!r} is not allowed, expected a number")
    return value


Policy = Annotated[str | dict[str, dict[str, float]], BeforeValidator(_policy)]
"""A policy's name, or its augmentations and their settings: `vision.augmentation` knows which."""


class PreviewParams(Section):
    images: PositiveInt
    copies: PositiveInt


class AugmentParams(Section):
    image_size: Annotated[int, Field(ge=8, le=2048)]
    channels: Literal["auto", 1, 3]
    shifts: Annotated[int, Field(ge=0, le=8)]
    policy: Policy
    preview: PreviewParams
