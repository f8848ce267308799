"""A network without memory for its weights, to look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.errors import ConfigurationError
from pipeline.vision.models import ORIGINS, Classifier, build

OWN_SIZES = (28, 32, 64, 96, 128, 224)
"""Sides of images at which an own network is looked at: the first that it takes."""


@dataclass(frozen=True)
class Subject:
    """Which network, and for what images; see `build`."""

    model: str
    image_size: int
    channels: int
    num_classes: int
    architecture: dict[str, Any] = field(default_factory=dict)

    @property
    def described(self) -> str:
        """For headings."""
        return (
            f"{self.model}, {self.image_size} px, "
            f"{self.channels} channel{'s' if self.channels > 1 else ''}, {self.num_classes} classes"
        )


def is_own(model: str) -> bool:
    """Whether ``model`` is one of `MODELS`, by the form of its name."""
    return model.partition(":")[0] not in ORIGINS


def usual_subjects(
    model: str, *, image_size: int | None, channels: int | None, num_classes: int | None
) -> list[Subject]:
    """As the network is usually published, where nothing else is asked for, in order of preference.

    Own networks for MNIST's images and classes or, where these are too small for it, larger ones;
    libraries' for ImageNet's.
    """
    own = is_own(model)
    sizes = (image_size,) if image_size else OWN_SIZES if own else (_size_of(model),)
    return [
        Subject(model, size, channels or (1 if own else 3), num_classes or (10 if own else 1000))
        for size in sizes
    ]


def _size_of(model: str) -> int:
    origin, _, name = model.partition(":")
    if origin == "timm":
        import timm

        config = timm.models.get_pretrained_cfg(name)
        if config is not None and config.input_size is not None:
            return int(config.input_size[-1])
    return 224


def blank(subject: Subject, *, where: str = "model") -> Classifier:
    """The network on the meta device: it has shapes and no values, and costs no memory.

    Raises:
        ConfigurationError: there is no such network, or it cannot be built so.
    """
    try:
        with torch.device("meta"):
            return _build(subject, where)
    except ConfigurationError:
        # Some need values to be built at all; what is wrong otherwise is said by this attempt.
        with torch.random.fork_rng(devices=[]):
            return _build(subject, where).to("meta")


def _build(subject: Subject, where: str) -> Classifier:
    return build(
        subject.model,
        channels=subject.channels,
        num_classes=subject.num_classes,
        image_size=subject.image_size,
        architecture=subject.architecture,
        mean=[0.5] * subject.channels,
        std=[0.5] * subject.channels,
        where=where,
    )
