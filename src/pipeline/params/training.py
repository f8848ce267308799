"""The sections ``train`` and ``variants``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.params.augmentation import Policy
from pipeline.params.base import Section


class ResizingParams(Section):
    """Training images that grow from side ``start`` over ``share`` of the epochs."""

    start: Annotated[int, Field(ge=8, le=2048)]
    share: Annotated[float, Field(gt=0.0, lt=1.0)]


class AutoencoderParams(Section):
    """An autoencoder's training, where it differs from its variant's."""

    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    lr: PositiveFloat
    masking: Annotated[float, Field(ge=0.0, lt=1.0)]


class RBMParams(Section):
    """The training of each restricted Boltzmann machine of a stack."""

    visible: Literal["bernoulli", "gaussian"]
    gibbs_steps: PositiveInt
    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    lr: PositiveFloat
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)]
    weight_decay: NonNegativeFloat


class PretrainingParams(Section):
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


class TrainParams(Section):
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
