"""The sections of ``params.yaml``: what each setting may be, and which go together."""

from __future__ import annotations

import itertools
import math
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipeline.errors import ConfigurationError, did_you_mean

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]
Port = Annotated[int, Field(ge=1024, le=65535)]
Severity = Annotated[
    Literal["critical", "warning", "off"],
    BeforeValidator(lambda value: "off" if value is False else value),  # YAML 1.1 reads off so
]


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


class _Section(BaseModel):
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


class TableParams(_Section):
    """How the table of a source is read."""

    file: str
    separator: Annotated[str, Field(pattern=r"^(whitespace|[,;|\t])$")]
    columns: tuple[str, ...] | None


class LabelRule(_Section):
    """A label from a number: ``value >= at_least`` is the second of ``classes``."""

    column: str
    at_least: float
    classes: tuple[str, str]


class WeightRule(_Section):
    """A weight from a number, linear between ``points`` of (value, weight), ascending in value."""

    column: str
    points: Annotated[tuple[tuple[float, NonNegativeFloat], ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        values = [value for value, _ in self.points]
        if any(a >= b for a, b in itertools.pairwise(values)):
            raise ValueError(f"the values of the points must ascend, not {values}")
        return self


class LimitParams(_Section):
    """What a source may unpack or download at most."""

    files: PositiveInt
    bytes: PositiveInt
    file_bytes: PositiveInt
    ratio: Annotated[float, Field(ge=1.0)]


class IngestParams(_Section):
    source: Annotated[str, Field(min_length=1)]
    mode: Literal["replace", "add"]
    table: TableParams | None
    label: LabelRule | None
    weight: WeightRule | None
    limits: LimitParams


class ScanParams(_Section):
    max_pixels: PositiveInt
    max_bytes: PositiveInt
    timeout: PositiveFloat
    memory: Annotated[int, Field(ge=100)]


class ValidationParams(_Section):
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


class Ratios(_Section):
    train: Annotated[float, Field(gt=0.0, lt=1.0)]
    val: Annotated[float, Field(gt=0.0, lt=1.0)]
    test: Annotated[float, Field(gt=0.0, lt=1.0)]

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"train, val and test add up to {total:g}, not to 1")
        return self


class SplitParams(_Section):
    seed: NonNegativeInt
    ratios: Ratios
    group: str | None


class PreviewParams(_Section):
    images: PositiveInt
    copies: PositiveInt


class AugmentParams(_Section):
    image_size: Annotated[int, Field(ge=8, le=2048)]
    channels: Literal["auto", 1, 3]
    shifts: Annotated[int, Field(ge=0, le=8)]
    policy: Policy
    preview: PreviewParams


class ResizingParams(_Section):
    """Training images that grow from side ``start`` over ``share`` of the epochs."""

    start: Annotated[int, Field(ge=8, le=2048)]
    share: Annotated[float, Field(gt=0.0, lt=1.0)]


class AutoencoderParams(_Section):
    """An autoencoder's training, where it differs from its variant's."""

    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    lr: PositiveFloat
    masking: Annotated[float, Field(ge=0.0, lt=1.0)]


class RBMParams(_Section):
    """The training of each restricted Boltzmann machine of a stack."""

    visible: Literal["bernoulli", "gaussian"]
    gibbs_steps: PositiveInt
    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    lr: PositiveFloat
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)]
    weight_decay: NonNegativeFloat


class PretrainingParams(_Section):
    """One of the ways to learn first weights from images alone."""

    autoencoder: AutoencoderParams | None = None
    rbm: RBMParams | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.autoencoder is None) == (self.rbm is None):
            raise ValueError("expected one of the sections autoencoder and rbm, or null for none")
        return self

    @property
    def method(self) -> Literal["autoencoder", "rbm"]:
        """The section that is there."""
        return "rbm" if self.autoencoder is None else "autoencoder"


class TrainParams(_Section):
    """The settings of one training. For a variant, those of ``train`` with its own over them."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    memory_format: Literal["auto", "channels_last", "contiguous"]
    execution: Literal["auto", "eager", "compiled", "cuda_graphs"]
    profile: bool
    processes: Literal["auto"] | PositiveInt
    seed: NonNegativeInt
    image_size: Annotated[int, Field(ge=8, le=2048)]
    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    progressive_resizing: ResizingParams | None
    gradient_accumulation: PositiveInt
    sampling: Literal["shuffle", "balanced"]
    policy: Policy | None
    optimizer: Literal["sgd", "adamw", "muon"]
    lr: PositiveFloat
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)]
    weight_decay: NonNegativeFloat
    schedule: Literal["one_cycle", "cosine", "constant"]
    warmup: Annotated[float, Field(ge=0.0, lt=1.0)]
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)]
    class_weights: Literal["balanced", "none"]
    use_sample_weights: bool
    soft_labels: str | None
    gradient_clip: PositiveFloat | None
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None
    early_stopping: PositiveInt | None
    test_time_augmentation: Literal["none", "flip", "flips", "dihedral"]
    pretrained: Annotated[str, Field(min_length=1)] | None
    pretraining: PretrainingParams | None
    freeze: tuple[str, ...]
    architecture: dict[str, Any]

    @model_validator(mode="after")
    def _agreeing(self) -> Self:
        if self.sampling == self.class_weights == "balanced":
            raise ValueError(
                "sampling: balanced with class_weights: balanced would count rare classes twice;"
                " set class_weights: none"
            )
        if self.processes != "auto" and 1 < self.processes > self.batch_size // 2:
            raise ValueError(
                f"{self.processes} processes cannot share a batch of {self.batch_size}: each needs"
                " two images of it; lower processes, or raise batch_size"
            )
        growing = self.progressive_resizing
        if growing is not None and growing.start > self.image_size:
            raise ValueError(
                f"progressive_resizing.start {growing.start} is above image_size {self.image_size}"
            )
        return self


class VariantParams(TrainParams):
    """One CNN to train: a network's name, as ``python -m pipeline models`` lists them, and how."""

    model: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _pretrained_once(self) -> Self:
        if self.pretraining is None:
            return self
        if self.pretrained is not None:
            raise ValueError("pretrained and pretraining both give the first weights; set one null")
        if self.architecture.get("spatial_transformer"):
            raise ValueError(
                "pretraining with architecture.spatial_transformer would learn to undo what moves"
                " the images; leave one of them out"
            )
        if self.pretraining.rbm is not None:
            self._check_stack()
        return self

    def _check_stack(self) -> None:
        """Boltzmann machines become the layers of a sigmoid network, as they are."""
        own, known = self.architecture, {"hidden", "activation", "dropout", "initialisation"}
        if self.model != "mlp" or own.get("activation") != "sigmoid" or not own.get("hidden"):
            raise ValueError(
                "pretraining.rbm gives the weights of model: mlp with architecture: {hidden: [500],"
                f" activation: sigmoid}}, or of more such layers, not of '{self.model}' with {own}"
            )
        if other := sorted(set(own) - known):
            raise ValueError(
                f"pretraining.rbm: architecture.{other[0]} has no counterpart in a Boltzmann"
                " machine; leave it out"
            )


class ExplainParams(_Section):
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


class DecisionParams(_Section):
    """How probabilities become answers."""

    costs: dict[str, dict[str, NonNegativeFloat]] | None
    recall: Annotated[float, Field(gt=0.0, le=1.0)] | None


class SomeImages(_Section):
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


class EvaluateParams(_Section):
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


class LabelsParams(_Section):
    variant: Name | None
    folds: Annotated[int, Field(ge=2, le=100)]
    epochs: PositiveInt | None
    seed: NonNegativeInt
    shown: PositiveInt


class CompareParams(_Section):
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1", "auroc"]
    reference: Name | None


class RegisterParams(_Section):
    model: Name
    min_gain: NonNegativeFloat
    max_loss: NonNegativeFloat
    resamples: Annotated[int, Field(ge=100)]
    seed: NonNegativeInt


class Schedules(_Section):
    ingest: str | None
    training: str | None


class Ports(_Section):
    mlflow: Port
    prefect: Port

    @model_validator(mode="after")
    def _different(self) -> Self:
        if self.mlflow == self.prefect:
            raise ValueError(f"both servers cannot use port {self.mlflow}")
        return self


class FlowParams(_Section):
    parallel_variants: Literal["auto"] | PositiveInt
    stage_timeout: PositiveInt
    stage_retries: NonNegativeInt
    schedules: Schedules
    timezone: str
    ports: Ports


class Params(_Section):
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
    def _reference_is_a_variant(self) -> Self:
        reference = self.compare.reference
        if reference is not None and reference not in self.variants:
            raise ValueError(
                f"compare.reference: '{reference}' is not under variants, only"
                f" {', '.join(self.variants)}{did_you_mean(reference, self.variants)}"
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
