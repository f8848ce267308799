"""A model's folder: what is loaded is what was saved, and what does not fit is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.errors import PipelineError
from pipeline.vision.card import ModelCard, load_classifier, save_model
from pipeline.vision.models import MODELS
from tests.vision.trained import make_model

HISTORY = [{"epoch": 1, "lr": 0.1, "val_loss": 1 / 3}, {"epoch": 2, "lr": 0.05, "val_loss": 0.25}]


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        *((name, {}) for name in MODELS),
        ("small_cnn", {"architecture": {"width": 8, "dropout": 0.1}}),
        ("small_cnn", {"channels": 3, "mean": (0.1, 0.2, 0.3), "std": (0.1, 0.2, 0.3)}),
        ("torchvision:resnet18", {}),
        ("timm:regnetx_002", {}),
    ],
)
def test_a_loaded_model_gives_the_same_logits(tmp_path, model, changes):
    classifier, card = make_model(model, **changes)
    save_model(tmp_path / "model", classifier, card, HISTORY)
    state = torch.get_rng_state()
    loaded, read = load_classifier(tmp_path / "model", "cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert read == card
    assert not loaded.training
    images = torch.rand(3, card.channels, 64, 64)
    with torch.inference_mode():
        expected = classifier.to(memory_format=torch.channels_last)(images)
        torch.testing.assert_close(loaded(images), expected, rtol=0, atol=0)


def test_equal_models_are_equal_bytes_whatever_their_memory_format(tmp_path):
    classifier, card = make_model()
    save_model(tmp_path / "a", classifier, card, HISTORY)
    save_model(tmp_path / "b", classifier.to(memory_format=torch.channels_last), card, HISTORY)
    for name in ("weights.safetensors", "model.json", "history.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_card_has_the_promised_keys_and_the_history_a_row_per_epoch(tmp_path):
    classifier, card = make_model()
    save_model(tmp_path / "model", classifier, card, HISTORY)
    values = json.loads((tmp_path / "model" / "model.json").read_text())
    assert values["format"] == 2
    assert set(values) == {field.name for field in dataclasses.fields(ModelCard)}
    lines = (tmp_path / "model" / "history.csv").read_text().splitlines()
    assert lines == ["epoch,lr,val_loss", "1,0.1,0.3333333333333333", "2,0.05,0.25"]


def test_a_tensor_with_two_names_is_stored_once_and_loaded_into_both(tmp_path, monkeypatch):
    def tied(*, channels: int, num_classes: int, image_size: int) -> nn.Module:
        first = nn.Linear(4, 4)
        second = nn.Linear(4, 4)
        second.weight = first.weight
        return nn.Sequential(
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), first, second, nn.Linear(4, num_classes)
        )

    monkeypatch.setitem(MODELS, "tied", tied)
    classifier, card = make_model("tied")
    save_model(tmp_path / "model", classifier, card, HISTORY)
    stored = load_file(tmp_path / "model" / "weights.safetensors")
    assert [name for name in stored if name in ("net.2.weight", "net.3.weight")] == ["net.2.weight"]
    loaded, _ = load_classifier(tmp_path / "model", "cpu")
    images = torch.rand(2, 1, 64, 64)
    assert torch.equal(loaded(images), classifier(images))
    assert loaded.net[2].weight is loaded.net[3].weight


def saved(tmp_path):
    folder = tmp_path / "model"
    save_model(folder, *make_model(), HISTORY)
    return folder


@pytest.mark.parametrize("keep", [0, 4, 1000, -1])
def test_a_truncated_weights_file_is_named(tmp_path, keep):
    path = saved(tmp_path) / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(PipelineError, match=r"weights\.safetensors: damaged or cut short"):
        load_classifier(path.parent)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": {"width": 16}}, r"is \(.*\), expected \(.*more"),
        ({"model": "torchvision:resnet18"}, "is missing"),
        ({"classes": ["a", "b", "c"]}, r"head\..* is \(2.*expected \(3"),
        ({"model": "small_cnm"}, "cannot be rebuilt: model: 'small_cnm'.*did you mean 'small_cnn'"),
        ({"format": 3}, "not a model card of format 2 or older"),
        ({"stored_sise": 96}, "these differ: stored_sise"),
    ],
)
def test_weights_and_card_that_disagree_are_refused(tmp_path, changes, message):
    path = saved(tmp_path) / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(PipelineError, match=message):
        load_classifier(path.parent)


def test_a_damaged_or_missing_file_is_named(tmp_path):
    folder = saved(tmp_path)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(PipelineError, match=r"weights\.safetensors: missing"):
        load_classifier(folder)
    (folder / "model.json").write_text("{")
    with pytest.raises(PipelineError, match=r"model\.json: damaged"):
        load_classifier(folder)
    (folder / "model.json").unlink()
    with pytest.raises(PipelineError, match=r"model\.json: missing"):
        load_classifier(folder)
