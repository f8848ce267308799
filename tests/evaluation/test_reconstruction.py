"""What a capsule network cannot draw is flagged, and the report says how often."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.evaluation import foreign
from pipeline.evaluation.reconstruction import (
    FALSE_ALARMS,
    distance_threshold,
    reconstruction_distances,
)
from pipeline.evaluation.robustness import attacks
from pipeline.evaluation.section import Evaluated
from pipeline.training.objective import Labels
from pipeline.vision.models import build
from tests.evaluation.synthetic import make_evaluated, make_params
from tests.evaluation.test_report import written

SIDE = 20
SHOWN = ("attacks", "foreign")


def striped(targets: np.ndarray) -> np.ndarray:
    """Dark images with a bright bar at the top (0) or further down (1)."""
    images = np.random.default_rng(0).integers(0, 20, (len(targets), SIDE, SIDE, 1), dtype=np.uint8)
    images[targets == 0, 4:8] += 200
    images[targets == 1, 12:16] += 200
    return images


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """A capsule network that has learned to tell and draw two kinds of bars."""
    params = make_params(tmp_path_factory.mktemp("capsules"))
    subject = make_evaluated(params, images=192, side=SIDE)
    packed = subject.packed
    packed = replace(packed, images=striped(packed.index["target"].to_numpy()))
    torch.manual_seed(0)
    classifier = build(
        "capsnet",
        channels=1,
        num_classes=2,
        image_size=SIDE,
        architecture={"width": 8, "primary_maps": 2},
        mean=packed.mean,
        std=packed.std,
    ).to(subject.device)
    learned = replace(subject, packed=packed, classifier=classifier)
    rows = packed.rows("train")
    pixels = learned.stored_images(rows)
    targets = torch.from_numpy(packed.index["target"].to_numpy()[rows]).to(subject.device)
    labels = Labels(targets, torch.ones(len(rows), device=subject.device), None, 0.0)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=0.003)
    for _ in range(60):
        optimizer.zero_grad()
        labels.loss(classifier, classifier(pixels), pixels).backward()
        optimizer.step()
    classifier.eval()
    return learned


def test_images_of_another_kind_lie_beyond_the_threshold(evaluated):
    detector = evaluated.detector
    known = evaluated.stored_images(evaluated.packed.rows("val"))
    assert detector.flags(known).double().mean() <= FALSE_ALARMS
    assert detector.flags(known.transpose(2, 3)).all()
    distances = reconstruction_distances(evaluated.classifier, known)
    assert distances.shape == (len(known),)
    some = reconstruction_distances(evaluated.classifier, known[[5, 3]])
    torch.testing.assert_close(some, distances[[5, 3]], rtol=1e-4, atol=1e-6)


def test_the_threshold_comes_from_validation_images_alone(evaluated):
    packed = evaluated.packed
    others = packed.images.copy()
    outside = np.setdiff1d(np.arange(len(others)), packed.rows("val"))
    others[outside] = 255
    changed = replace(evaluated, packed=replace(packed, images=others))
    assert changed.detector.threshold == evaluated.detector.threshold


def test_the_threshold_is_the_quantile_of_the_validation_images():
    distances = np.linspace(0.0, 0.99, 100, dtype=np.float32)
    assert distance_threshold(distances) == pytest.approx(0.95, abs=1e-6)
    assert (distances > distance_threshold(distances)).sum() == 4
    assert distance_threshold(distances, false_alarms=0.0) == pytest.approx(0.99)
    with pytest.raises(ValueError, match="no threshold"):
        distance_threshold(distances[:0])


def test_the_report_says_how_many_foreign_images_raise_an_alarm(evaluated):
    found = foreign.find(evaluated)
    alarm = found.numbers["alarm"]
    assert alarm["known"] <= 0.25
    assert alarm["foreign"] == 1.0
    assert found.numbers["auroc"]["reconstruction"]["value"] == 1.0
    assert "flags 100.0" in found.points[0].text


def test_the_report_says_how_many_attacked_images_raise_an_alarm(evaluated):
    stronger = evaluated.params.evaluate.attacks.model_copy(update={"epsilons": (1.0, 64.0)})
    settings = evaluated.params.evaluate.model_copy(update={"attacks": stronger})
    params = evaluated.params.model_copy(update={"evaluate": settings})
    found = attacks.find(replace(evaluated, params=params))
    for shares in found.numbers["flagged"].values():
        assert shares[0]["value"] <= 0.25
        assert shares[-1]["value"] == 1.0


def test_the_page_shows_the_alarms(evaluated, tmp_path):
    text = written(tmp_path, evaluated, SHOWN)
    assert text.count(">flagged</th>") == 2
    assert "raises an alarm" in text


def test_a_network_that_draws_nothing_raises_no_alarms(tmp_path):
    subject = make_evaluated(make_params(tmp_path), images=60)
    assert subject.detector is None
    assert foreign.find(subject).numbers["alarm"] is None
    assert attacks.find(subject).numbers["flagged"] == {}
    text = written(tmp_path, subject, SHOWN)
    assert "flagged" not in text
    assert "alarm" not in text
