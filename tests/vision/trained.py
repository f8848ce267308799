"""A network that went through something, for tests of what comes after training."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pipeline.vision.card import ModelCard
from pipeline.vision.models import Classifier, build


def make_model(model: str = "small_cnn", **changes: Any) -> tuple[Classifier, ModelCard]:
    """A network as after training, for images of 64 px, and its card."""
    torch.manual_seed(0)
    stored_size = changes.pop("stored_size", 96)
    settings = {"model": model, "architecture": {}, "channels": 1, "image_size": 64}
    settings |= {"mean": (0.6,), "std": (0.16,)} | changes
    classifier = build(num_classes=2, **settings)
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    side, channels = settings["image_size"], settings["channels"]
    with torch.no_grad():
        classifier(torch.rand(8, channels, side, side))  # gives the norms their statistics
    card = ModelCard(
        variant="first",
        classes=("good", "bad"),
        stored_size=stored_size,
        data_digest="d" * 64,
        training_key="k" * 64,
        seed=0,
        parameters=classifier.num_parameters,
        plan={"precision": "float32", "memory_format": "channels_last"},
        **settings,
    )
    return classifier.eval(), card
