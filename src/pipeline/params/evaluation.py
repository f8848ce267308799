"""The sections about what is made of trained networks: ``evaluate``, ``labels``, ``compare`` and
``register``."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from pipeline.params.base import Name, Section


class ExplainParams(Section):
    """What the report explains. `pipeline.evaluation.explain` has the methods."""

    methods: tuple[
        Literal[
            "saliency",
            "integrated_gradients",
            "guided_backprop",
            "deconvnet",
            "occlusion",
            "grad_cam",
        ],
        ...,
    ]
    images: NonNegativeInt
    units: NonNegativeInt
    examples: NonNegativeInt
    steps: NonNegativeInt


class DecisionParams(Section):
    """How probabilities become answers."""

    costs: dict[str, dict[str, NonNegativeFloat]] | None
    recall: Annotated[float, Field(gt=0.0, le=1.0)] | None


class SomeImages(Section):
    """How many test images something is measured on."""

    images: PositiveInt


class AttackParams(SomeImages):
    epsilons: Annotated[tuple[Annotated[float, Field(gt=0.0, le=255.0)], ...], Field(min_length=1)]
    steps: PositiveInt

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if any(a >= b for a, b in itertools.pairwise(self.epsilons)):
            raise ValueError(f"epsilons must ascend, not {list(self.epsilons)}")
        return self


class ForeignParams(SomeImages):
    folder: str | None


class EvaluateParams(Section):
    batch_size: PositiveInt
    seed: NonNegativeInt
    resamples: Annotated[int, Field(ge=100)]
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)]
    sections: tuple[str, ...]
    gallery: NonNegativeInt
    decision: DecisionParams
    corruptions: SomeImages
    attacks: AttackParams
    invariance: SomeImages
    foreign: ForeignParams
    explain: ExplainParams


class LabelsParams(Section):
    variant: Name | None
    folds: Annotated[int, Field(ge=2, le=100)]
    epochs: PositiveInt | None
    seed: NonNegativeInt
    shown: PositiveInt


class CompareParams(Section):
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1", "auroc"]
    reference: Name | None


class RegisterParams(Section):
    model: Name
    min_gain: NonNegativeFloat
    max_loss: NonNegativeFloat
    resamples: Annotated[int, Field(ge=100)]
    seed: NonNegativeInt
