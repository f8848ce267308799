"""The section ``flow``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.params.base import Section

Port = Annotated[int, Field(ge=1024, le=65535)]


class Schedules(Section):
    ingest: str | None
    training: str | None


class Ports(Section):
    mlflow: Port
    prefect: Port

    @model_validator(mode="after")
    def _different(self) -> Self:
        if self.mlflow == self.prefect:
            raise ValueError(f"both servers cannot use port {self.mlflow}")
        return self


class FlowParams(Section):
    parallel_variants: Literal["auto"] | PositiveInt
    stage_timeout: PositiveInt
    stage_retries: NonNegativeInt
    schedules: Schedules
    timezone: str
    ports: Ports
