"""``params.yaml``, read in one place into frozen models.

Nothing has a default here: every value a user may tune stands in ``params.yaml``. A variant is
written as its model and the keys of ``train`` it sets anew; `load` gives it all of them.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

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


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; a user's slip must be seen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConfigurationError(
                    f"params.yaml, line {key_node.start_mark.line + 1}: '{key}' is there twice"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-3 as text; users mean the number.
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def load(path: Path) -> Params:
    """Read ``params.yaml``.

    Raises:
        ConfigurationError: the file is missing, is no YAML, lacks a key, has an unknown one, or a
            value is not allowed. One line for each, naming the key, the value and what is allowed.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: missing; it holds every setting of the pipeline"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path.name} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{path.name}: expected sections such as 'train:', found {raw!r}")
    try:
        return Params.model_validate(_with_common_settings(raw))
    except ValidationError as error:
        lines = dict.fromkeys(_message(detail) for detail in _first_causes(error.errors()))
        raise ConfigurationError("\n".join(f"{path.name}: {line}" for line in lines)) from None


def _with_common_settings(raw: dict[Any, Any]) -> dict[Any, Any]:
    """Lay each variant's own settings over those of ``train``."""
    train, variants = raw.get("train"), raw.get("variants")
    if not isinstance(train, dict) or not isinstance(variants, dict):
        return raw
    return raw | {
        "variants": {
            name: train | own if isinstance(own, dict) else own for name, own in variants.items()
        }
    }


def _first_causes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without the echo in every variant of what is already wrong in ``train``."""
    in_train = {detail["loc"][1:] for detail in details if detail["loc"][:1] == ("train",)}
    return [
        detail
        for detail in details
        if detail["loc"][:1] != ("variants",) or detail["loc"][2:] not in in_train
    ]


def _message(detail: ErrorDetails) -> str:
    where = ".".join(_location(detail)) or "the file"
    value, kind, context = detail["input"], detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return f"{where} is missing"
    if kind == "value_error":
        # Messages of our own validators already name what is wrong with which value.
        return f"{where}: {context['error']}" if detail["loc"] else str(context["error"])
    if kind == "extra_forbidden":
        *section, key = _location(detail)
        known = _keys_at(section)
        hint = did_you_mean(key, known) or ";"
        return f"{where} (= {value!r}) is not a setting{hint} allowed here: {', '.join(known)}"
    near = ""
    if kind == "literal_error" and isinstance(value, str):
        near = did_you_mean(value, re.findall(r"'([^']+)'", context["expected"]))
    expected = _EXPECTED.get(kind, detail["msg"].removeprefix("Input should be ")).format(**context)
    return f"{where}: {value!r} is not allowed, expected {expected}{near}"


_EXPECTED = {
    "too_short": "at least {min_length}",
    "string_too_short": "some text",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text of the pattern {pattern}",
    "model_type": "a section of settings",
}
"""Where pydantic's own wording would puzzle a reader of YAML."""


def _location(detail: ErrorDetails) -> list[str]:
    """The keys that lead to a value, without pydantic's notes on unions and validators."""
    notes = ("function-", "literal[", "constrained-", "[key]")
    return [str(part) for part in detail["loc"] if not str(part).startswith(notes)]


def _keys_at(location: list[str]) -> list[str]:
    """The names of the settings allowed in the section at ``location``."""
    schema = Params.model_json_schema(by_alias=True)
    node: dict[str, Any] = schema
    for part in location:
        items = node.get("additionalProperties") or node.get("patternProperties", {}).values()
        any_key = items if isinstance(items, dict) else next(iter(items), {})
        node = node.get("properties", {}).get(part) or any_key
        for option in node.get("anyOf", [node]):
            if "$ref" in option:
                node = schema["$defs"][option["$ref"].rsplit("/", 1)[-1]]
    return list(node.get("properties", {}))


def json_schema() -> str:
    """The JSON schema of ``params.yaml`` as its author writes it, for editors to complete from."""
    schema = Params.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "params.yaml"
    schema["$defs"]["VariantParams"]["required"] = ["model"]  # all else comes from `train`
    return json.dumps(schema, indent=2) + "\n"
