"""What every section is, and types that several of them have."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]


class Section(BaseModel):
    """Settings that are all given, all known, and never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic takes true for 1: ``early_stopping: true`` would end after one epoch."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and _is_number(kind):
            raise ValueError(f"{value!r} is not allowed, expected a number")
        return value


def _is_number(kind: Any) -> bool:
    if get_origin(kind) in {Annotated, Union, UnionType}:
        return any(_is_number(part) for part in get_args(kind))
    return kind in (int, float)
