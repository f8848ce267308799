"""A variant that begins with weights from a file: what they do to its training and its identity."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch

from pipeline.data.pack import Packed
from pipeline.training.train import train
from pipeline.vision.card import ModelCard, load_classifier
from pipeline.vision.inference import predict_logits


@pytest.fixture(autouse=True)
def keys(monkeypatch) -> list[str]:
    """The identities of the trainings, in place of MLflow."""
    told: list[str] = []

    @contextlib.contextmanager
    def mirror(*_: object, training_key: str, **__: Any):
        told.append(training_key)
        yield mirror

    mirror.finish = lambda _: None
    monkeypatch.setattr("pipeline.tracking.mirror", mirror)
    return told


def test_weights_are_known_by_what_they_are_not_by_their_name(workspace, write_params, keys):
    train(workspace, write_params(epochs=4), "tiny")
    learned, card = load_classifier(workspace.model("tiny"))
    assert card.pretrained is None
    weights = {name: tensor.contiguous() for name, tensor in learned.net.state_dict().items()}
    for name, change in (("one", 0.0), ("one", 0.1), ("two", 0.1)):
        weights["head.bias"] = weights["head.bias"] + change
        torch.save(weights, workspace.root / f"{name}.pth")
        weights["head.bias"] = weights["head.bias"] - change
        train(workspace, write_params(epochs=1, lr=1e-6, pretrained=f"{name}.pth"), "tiny")
    assert len(set(keys)) == 4
    assert ModelCard.read(workspace.model("tiny")).pretrained is not None


def test_a_training_goes_on_where_its_weights_were(workspace, write_params):
    train(workspace, write_params(epochs=6), "tiny")
    first = workspace.model("tiny")
    first.rename(workspace.root / "learned")
    source = str(workspace.root / "learned" / "weights.safetensors")
    settings = {"epochs": 1, "lr": 1e-7, "pretrained": source, "freeze": ["stem.*"]}
    train(workspace, write_params(**settings, test_time_augmentation="flips"), "tiny")
    learned, _ = load_classifier(workspace.root / "learned")
    again, card = load_classifier(first)
    assert torch.equal(again.net.stem[0].weight, learned.net.stem[0].weight)
    torch.testing.assert_close(again.net.head.weight, learned.net.head.weight, rtol=0, atol=1e-4)
    assert again.views == card.test_time_augmentation == "flips"
    packed = Packed.load(workspace.packed)
    logits = predict_logits(again, packed.images, image_size=32, rows=packed.rows("val"))
    targets = packed.index["target"].to_numpy()[packed.rows("val")]
    assert (logits.argmax(axis=1) == targets).mean() > 0.9
