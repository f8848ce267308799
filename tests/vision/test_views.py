"""Test-time augmentation: the mean over views, the same whichever view comes in."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from pipeline.vision.card import ModelCard, load_classifier, save_model
from pipeline.vision.inference import predict_logits
from pipeline.vision.views import VIEWS, view
from tests.vision.trained import make_model


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (6, 64, 64, 1), dtype=np.uint8)


def probabilities(classifier, images: np.ndarray, views: str) -> torch.Tensor:
    classifier.views = views
    logits = predict_logits(classifier, np.ascontiguousarray(images), image_size=64, batch_size=4)
    assert logits.dtype == np.float32
    return torch.from_numpy(logits).double().softmax(dim=1)


SYMMETRIES = {
    "none": (),
    "flip": (np.fliplr,),
    "flips": (np.fliplr, np.flipud, lambda image: np.rot90(image, 2)),
    "dihedral": (np.fliplr, np.flipud, np.rot90, lambda image: image.transpose(1, 0, 2)),
}


@pytest.mark.parametrize("views", VIEWS)
def test_a_prediction_does_not_depend_on_the_view_that_is_given(images, views):
    classifier, _ = make_model()
    expected = probabilities(classifier, images, views)
    for turn in SYMMETRIES[views]:
        turned = np.stack([turn(image) for image in images])
        found = probabilities(classifier, turned, views)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        plain = probabilities(classifier, turned, "none")
        assert (plain - probabilities(classifier, images, "none")).abs().max() > 1e-3


@pytest.mark.parametrize("views", VIEWS)
def test_it_is_the_mean_of_the_probabilities(images, views):
    classifier, _ = make_model()
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    each = [
        probabilities(classifier, view(pixels, chosen).permute(0, 2, 3, 1).numpy(), "none")
        for chosen in VIEWS[views]
    ]
    found = probabilities(classifier, images, views)
    torch.testing.assert_close(found, torch.stack(each).mean(dim=0), rtol=0, atol=1e-6)


def test_all_views_differ():
    image = torch.arange(9.0).view(1, 1, 3, 3)
    for views in VIEWS.values():
        assert len({tuple(view(image, chosen).flatten().tolist()) for chosen in views}) == len(
            views
        )
    assert len(VIEWS["dihedral"]) == 8


def test_no_view_is_a_prediction_as_ever(images):
    classifier, _ = make_model()
    logits = predict_logits(classifier, images, image_size=64)
    with torch.inference_mode():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255)
        expected = classifier(pixels.contiguous(memory_format=torch.channels_last))
    assert torch.equal(torch.from_numpy(logits), expected)


def test_a_saved_model_predicts_by_its_views(tmp_path, images):
    classifier, card = make_model()
    card = dataclasses.replace(card, test_time_augmentation="flips")
    save_model(tmp_path / "model", classifier, card, [])
    loaded, read = load_classifier(tmp_path / "model")
    assert read.test_time_augmentation == loaded.views == "flips"
    found = torch.from_numpy(predict_logits(loaded, images, image_size=64)).double().softmax(1)
    expected = probabilities(classifier, images, "flips")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_model_from_before_predicts_as_it_did(tmp_path, images):
    classifier, card = make_model()
    save_model(tmp_path / "model", classifier, card, [])
    path = tmp_path / "model" / "model.json"
    values = json.loads(path.read_text())
    del values["test_time_augmentation"], values["pretrained"]
    path.write_text(json.dumps(values | {"format": 1}))
    loaded, read = load_classifier(tmp_path / "model")
    assert read == dataclasses.replace(card, test_time_augmentation="none", pretrained=None)
    assert ModelCard.read(tmp_path / "model").format == 2
    assert np.array_equal(
        predict_logits(loaded, images, image_size=64),
        predict_logits(classifier, images, image_size=64),
    )
