"""The sections about data: ``ingest``, ``scan``, ``validation`` and ``split``."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.params.base import Section, Share

Severity = Annotated[
    Literal["critical", "warning", "off"],
    BeforeValidator(lambda value: "off" if value is False else value),  # YAML 1.1 reads off so
]


class TableParams(Section):
    """How the table of a source is read."""

    file: str
    separator: Annotated[str, Field(pattern=r"^(whitespace|[,;|\t])$")]
    columns: tuple[str, ...] | None


class LabelRule(Section):
    """A label from a number: ``value >= at_least`` is the second of ``classes``."""

    column: str
    at_least: float
    classes: tuple[str, str]


class WeightRule(Section):
    """A weight from a number, linear between ``points`` of (value, weight), ascending in value."""

    column: str
    points: Annotated[tuple[tuple[float, NonNegativeFloat], ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        values = [value for value, _ in self.points]
        if any(a >= b for a, b in itertools.pairwise(values)):
            raise ValueError(f"the values of the points must ascend, not {values}")
        return self


class LimitParams(Section):
    """What a source may unpack or download at most."""

    files: PositiveInt
    bytes: PositiveInt
    file_bytes: PositiveInt
    ratio: Annotated[float, Field(ge=1.0)]


class IngestParams(Section):
    source: Annotated[str, Field(min_length=1)]
    mode: Literal["replace", "add"]
    table: TableParams | None
    label: LabelRule | None
    weight: WeightRule | None
    limits: LimitParams


class ScanParams(Section):
    max_pixels: PositiveInt
    max_bytes: PositiveInt
    timeout: PositiveFloat
    memory: Annotated[int, Field(ge=100)]


class ValidationParams(Section):
    formats: Annotated[tuple[str, ...], Field(min_length=1)]
    modes: Annotated[tuple[str, ...], Field(min_length=1)]
    min_side: PositiveInt
    max_side: PositiveInt
    max_aspect_ratio: Annotated[float, Field(ge=1.0)]
    min_brightness: Share
    max_brightness: Share
    min_contrast: Share
    min_sharpness: NonNegativeFloat
    min_entropy: Annotated[float, Field(ge=0.0, le=8.0)]
    min_images_per_class: PositiveInt
    max_imbalance: Annotated[float, Field(ge=1.0)]
    max_drift: Share
    quarantine_budget: Share
    severity: dict[str, Severity]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_side > self.max_side:
            raise ValueError(f"min_side {self.min_side} is above max_side {self.max_side}")
        if self.min_brightness > self.max_brightness:
            raise ValueError(
                f"min_brightness {self.min_brightness} is above max_brightness"
                f" {self.max_brightness}"
            )
        return self


class Ratios(Section):
    train: Annotated[float, Field(gt=0.0, lt=1.0)]
    val: Annotated[float, Field(gt=0.0, lt=1.0)]
    test: Annotated[float, Field(gt=0.0, lt=1.0)]

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"train, val and test add up to {total:g}, not to 1")
        return self


class SplitParams(Section):
    seed: NonNegativeInt
    ratios: Ratios
    group: str | None
