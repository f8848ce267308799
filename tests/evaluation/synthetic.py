"""Predictions without a network, for the tests of what is made of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from pipeline.data.pack import Packed
from pipeline.evaluation.bootstrap import Resampling
from pipeline.evaluation.measure import measure
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.section import Evaluated
from pipeline.params import Params, load
from pipeline.vision.card import ModelCard
from pipeline.vision.metrics import Sample
from pipeline.vision.models import build
from tests.project import PROJECT

CLASSES = ("bar", "disc", "cross & <b>ring</b>", "a$b$c", "漢字", "star", "moon")


def make_probabilities(
    targets: np.ndarray, classes: int, *, skill: float = 1.5, seed: int = 0
) -> np.ndarray:
    """Probabilities (N, classes) that favour the truth by ``skill``."""
    logits = np.random.default_rng(seed).normal(size=(len(targets), classes))
    logits[np.arange(len(targets)), targets] += skill
    scores = np.exp(logits)
    return scores / scores.sum(axis=1, keepdims=True)


def make_sample(images: int, classes: int, *, skill: float = 1.5, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, images)
    probabilities = make_probabilities(targets, classes, skill=skill, seed=seed)
    return Sample.of(targets, probabilities, rng.random(images))


def make_packed(images: int = 90, classes: int = 2, *, side: int = 20, channels: int = 1) -> Packed:
    """Packed noise: a third each for train, val and test; four kinds of extra columns."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, classes, images)
    index = pd.DataFrame(
        {
            "image_id": [f"{i:064x}" for i in range(images)],
            "file_name": [f"images/{i:05}.png" for i in range(images)],
            "label": [CLASSES[k] for k in targets],
            "target": targets,
            "weight": rng.random(images).astype(np.float32),
            "split": [("train", "val", "test")[i % 3] for i in range(images)],
            "camera": rng.choice(["north", "south"], images),
            "exposure": rng.gamma(2.0, 1.0, images),
            "serial": [f"s{i}" for i in range(images)],
            "correct": rng.choice(["yes", "no"], images),
        }
    )
    return Packed(
        images=rng.integers(0, 256, (images, side, side, channels)).astype(np.uint8),
        index=index,
        classes=CLASSES[:classes],
        channels=channels,
        image_size=side,
        mean=(0.5,) * channels,
        std=(0.3,) * channels,
        extra_columns=("camera", "exposure", "serial", "correct"),
        digest="d" * 64,
    )


def make_predictions(packed: Packed, *, skill: float = 1.5, seed: int = 0) -> Predictions:
    rows = np.concatenate([packed.rows("val"), packed.rows("test")])
    targets = packed.index["target"].to_numpy()[rows]
    probabilities = make_probabilities(targets, len(packed.classes), skill=skill, seed=seed)
    return Predictions.of(packed, rows, probabilities, weights_sha256="a" * 64, parameters=1234)


def make_history(epochs: int = 5) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "lr": 0.01,
            "train_loss": 1 / epoch,
            "train_accuracy": 1 - 0.5 / epoch,
            "val_loss": 1.2 / epoch,
            "val_accuracy": 1 - 0.6 / epoch,
            "val_balanced_accuracy": 1 - 0.7 / epoch,
        }
    )


QUICK = {
    "resamples": 100,
    "corruptions": {"images": 4},
    "attacks": {"images": 4, "epsilons": [1.0, 4.0], "steps": 2},
    "invariance": {"images": 4},
    "foreign": {"images": 8, "folder": None},
    "explain": {
        "methods": ["grad_cam", "saliency"],
        "images": 4,
        "units": 2,
        "examples": 8,
        "steps": 2,
    },
}
"""Settings of the evaluation by which it takes a moment."""


def make_params(folder: Path, **evaluate: Any) -> Params:
    """The committed settings, quick ones of the evaluation, and ``evaluate`` over them."""
    settings = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    settings["evaluate"] |= QUICK | evaluate
    (folder / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return load(folder / "params.yaml")


def make_evaluated(
    params: Params,
    *,
    images: int = 90,
    classes: int = 2,
    skill: float = 1.5,
    side: int = 16,
    channels: int = 1,
) -> Evaluated:
    """A small network that has seen nothing, and predictions that are not its own."""
    packed = make_packed(images, classes, side=side, channels=channels)
    predictions = make_predictions(packed, skill=skill)
    card = ModelCard(
        variant="small_cnn",
        model="small_cnn",
        architecture={"width": 8},
        classes=packed.classes,
        channels=channels,
        image_size=side,
        stored_size=side,
        mean=packed.mean,
        std=packed.std,
        data_digest=packed.digest,
        training_key="k" * 64,
        seed=0,
        parameters=1234,
        plan={"precision": "float32", "memory_format": "channels_last"},
    )
    torch.manual_seed(0)
    classifier = build(
        card.model,
        channels=channels,
        num_classes=classes,
        image_size=side,
        architecture=card.architecture,
        mean=card.mean,
        std=card.std,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Evaluated(
        card=card,
        classifier=classifier.eval().to(device),
        device=device,
        packed=packed,
        predictions=predictions,
        results=measure(predictions, Resampling.of(params.evaluate)),
        history=make_history(),
        params=params,
    )
