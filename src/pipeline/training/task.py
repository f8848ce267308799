"""A training as it is asked for: on what, how, and from which weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from pipeline.data.pack import Packed
from pipeline.params import VariantParams
from pipeline.training.environment import derived_seed
from pipeline.training.freezing import freeze
from pipeline.training.loop import Trainer
from pipeline.training.splits import Split, make_splits
from pipeline.vision import models
from pipeline.vision.augmentation import Policy
from pipeline.vision.models import Classifier
from pipeline.vision.models.pretrained import Pretrained, load_pretrained


@dataclass(frozen=True)
class Task:
    """What is to be trained, and on what."""

    trainer: ClassVar[type[Trainer]] = Trainer

    variant: str
    settings: VariantParams
    policy: Policy
    packed: Packed
    device: torch.device
    pretrained: Pretrained | None = None
    """What ``settings.pretrained`` or ``settings.pretraining`` gives."""

    @property
    def pretrained_digest(self) -> str | None:
        """What the training's identity holds of its pretrained weights."""
        return None if self.pretrained is None else self.pretrained.digest

    @property
    def where(self) -> str:
        """Its section of ``params.yaml``, for messages."""
        return f"variants.{self.variant}"

    def network(self) -> Classifier:
        """The network as its training begins, see `build_network`."""
        return build_network(self)


def pretrained_weights(settings: VariantParams, *, root: Path, where: str) -> Pretrained | None:
    """What ``settings.pretrained`` names, see `load_pretrained`; file paths begin at ``root``."""
    return load_pretrained(
        settings.pretrained,
        settings.model,
        architecture=settings.architecture,
        image_size=settings.image_size,
        root=root,
        where=where,
    )


def build_network(task: Task) -> Classifier:
    """The network as its training begins: its weights follow from the seed, the variant's name and
    the pretrained weights; what is frozen is marked so.

    Raises:
        ConfigurationError: it cannot be built, is not the pretrained weights', cannot take the
            size of image that it is to begin with, or nothing of it would be trained.
    """
    settings = task.settings
    torch.manual_seed(derived_seed("weights", settings.seed, task.variant))
    network = untrained_network(task)
    if settings.progressive_resizing is not None:
        start = settings.progressive_resizing.start
        models.try_out(
            network, start, f"params.yaml: {task.where}.progressive_resizing: '{settings.model}'"
        )
    if task.pretrained is not None:
        task.pretrained.copy_to(network, where=task.where)
    freeze(network.net, settings.freeze, where=task.where)
    network.views = settings.test_time_augmentation
    return network


def untrained_network(task: Task) -> Classifier:
    """The network that the settings name, its weights from torch's global generator.

    Raises:
        ConfigurationError: it cannot be built so, or not for such images.
    """
    settings = task.settings
    return models.build(
        settings.model,
        channels=task.packed.channels,
        num_classes=len(task.packed.classes),
        image_size=settings.image_size,
        architecture=settings.architecture,
        mean=task.packed.mean,
        std=task.packed.std,
        where=task.where,
    )


def build_splits(task: Task) -> tuple[Split, Split]:
    """The train and val images on the task's device, see `make_splits`."""
    return make_splits(task.packed, task.settings, task.device, where=task.where)
