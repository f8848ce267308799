"""All sections of ``params.yaml``, and which of their settings go together."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.errors import ConfigurationError, did_you_mean
from pipeline.params.augmentation import AugmentParams, Policy
from pipeline.params.base import Name, Section
from pipeline.params.data import IngestParams, ScanParams, SplitParams, ValidationParams
from pipeline.params.evaluation import CompareParams, EvaluateParams, LabelsParams, RegisterParams
from pipeline.params.flow import FlowParams
from pipeline.params.training import TrainParams, VariantParams


class Params(Section):
    """All of ``params.yaml``."""

    ingest: IngestParams
    scan: ScanParams
    validation: ValidationParams
    split: SplitParams
    augment: AugmentParams
    train: TrainParams
    variants: Annotated[dict[Name, VariantParams], Field(min_length=1)]
    evaluate: EvaluateParams
    labels: LabelsParams
    compare: CompareParams
    register_: RegisterParams = Field(alias="register")
    flow: FlowParams

    @model_validator(mode="after")
    def _chosen_are_variants(self) -> Self:
        chosen = {
            "compare.reference": self.compare.reference,
            "labels.variant": self.labels.variant,
        }
        for key, name in chosen.items():
            if name is not None and name not in self.variants:
                raise ValueError(
                    f"{key}: '{name}' is not under variants, only"
                    f" {', '.join(self.variants)}{did_you_mean(name, self.variants)}"
                )
        return self

    @model_validator(mode="after")
    def _no_variant_larger_than_stored(self) -> Self:
        for name, variant in self.variants.items():
            if variant.image_size > self.augment.image_size:
                raise ValueError(
                    f"variants.{name}.image_size {variant.image_size} is above augment.image_size"
                    f" {self.augment.image_size}, the size images are stored in; raise the latter"
                )
        return self

    def variant(self, name: str) -> VariantParams:
        """The variant called ``name``.

        Raises:
            ConfigurationError: ``params.yaml`` has no such variant.
        """
        if name not in self.variants:
            raise ConfigurationError(
                f"params.yaml: variants has no '{name}', only {', '.join(self.variants)}"
                + did_you_mean(name, self.variants)
            )
        return self.variants[name]

    def policy(self, variant: str) -> tuple[Policy, str]:
        """The augmentation policy ``variant`` is trained with, and where it stands.

        Raises:
            ConfigurationError: ``params.yaml`` has no such variant.
        """
        own = self.variant(variant).policy
        if own is None:
            return self.augment.policy, "augment.policy"
        return own, "train.policy" if own == self.train.policy else f"variants.{variant}.policy"
