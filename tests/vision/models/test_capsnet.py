"""Capsules: their lengths, their routing, both losses, and what is unlike the training's images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.training.objective import Labels
from pipeline.vision.models.capsnet import lengths, margin_loss, route, squash
from pipeline.vision.reconstruction import distance_threshold, reconstruction_distances

SMALL = {"width": 8, "primary_maps": 2}


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4))
@settings(deadline=None)
def test_a_capsule_is_shorter_than_one_and_keeps_its_direction(numbers):
    vector = torch.tensor(numbers)
    squashed = squash(vector)
    square = vector.double().square().sum()
    assert squashed.norm() < 1.0 + 1e-6  # but for rounding
    assert squashed.norm().item() == pytest.approx((square / (1 + square)).item(), abs=1e-5)
    assert (squashed * vector >= 0).all()


def test_a_capsule_of_nothing_has_a_gradient():
    vector = torch.zeros(3, 4, requires_grad=True)
    lengths(squash(vector)).sum().backward()
    assert vector.grad.isfinite().all()


def routed_slowly(votes: np.ndarray, rounds: int) -> np.ndarray:
    """Procedure 1 of the paper, for one image: votes (P, K, D)."""

    def squashed(s: np.ndarray) -> np.ndarray:
        n = np.linalg.norm(s)
        return s * n / (1 + n * n)

    b = np.zeros(votes.shape[:2])
    for _ in range(rounds):
        c = np.exp(b) / np.exp(b).sum(axis=1, keepdims=True)
        v = np.stack([squashed(c[:, j] @ votes[:, j]) for j in range(votes.shape[1])])
        for i, j in np.ndindex(b.shape):
            b[i, j] += votes[i, j] @ v[j]
    return v


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_routing_is_the_papers_procedure(rounds):
    votes = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    got = route(votes, rounds=rounds).numpy()
    for n in range(2):
        expected = routed_slowly(votes[n].double().numpy(), rounds)
        np.testing.assert_allclose(got[n], expected, rtol=1e-4, atol=1e-5)


def test_the_margin_loss_has_its_hand_worked_value():
    got = margin_loss(torch.tensor([[0.5, 0.3, 0.05]]), torch.tensor([[1.0, 0.0, 0.0]]))
    assert got.item() == pytest.approx(0.4**2 + 0.5 * 0.2**2)
    perfect = margin_loss(torch.tensor([[0.95, 0.1]]), torch.tensor([[1.0, 0.0]]))
    assert perfect.item() == 0.0


def test_the_classes_order_is_that_of_the_lengths(make):
    torch.manual_seed(0)
    classifier = make("capsnet", architecture=SMALL).eval()
    images = torch.rand(4, 1, 28, 28)
    with torch.no_grad():
        found = lengths(classifier.net.capsules(classifier.normalise(images)))
        logits = classifier(images)
    assert ((found > 0) & (found < 1)).all()
    torch.testing.assert_close(logits.sigmoid(), found, rtol=1e-4, atol=1e-5)


def outputs_of(make, *, smoothing=0.0, mass=None, weights=(1.0, 1.0), **architecture):
    torch.manual_seed(0)
    classifier = make("capsnet", architecture=SMALL | architecture)
    pixels = torch.rand(2, 1, 28, 28)
    outputs = classifier(pixels)
    labels = Labels(torch.tensor([2, 0]), torch.tensor(weights), mass, smoothing)
    return classifier, pixels, outputs, labels.loss(classifier, outputs, pixels)


@pytest.mark.parametrize("decoder", ["dense", "transposed"])
def test_the_loss_is_margin_and_reconstruction(make, decoder):
    classifier, pixels, (_, capsules), loss = outputs_of(make, decoder=decoder, weights=(1.0, 0.5))
    one_hot = torch.tensor([[0.0, 0, 1], [1, 0, 0]])
    masked = torch.zeros_like(capsules)
    masked[0, 2], masked[1, 0] = capsules[0, 2], capsules[1, 0]
    drawn = classifier.net.decoder(masked.flatten(1))
    assert drawn.shape == pixels.shape
    errors = 0.0005 * (drawn - pixels).square().sum(dim=(1, 2, 3))  # the paper's, at 28×28
    each = margin_loss(lengths(capsules), one_hot) + errors
    assert loss.item() == pytest.approx(((each[0] + 0.5 * each[1]) / 2).item(), rel=1e-5)


def test_soft_labels_and_smoothing_count_in_the_loss(make):
    *_, hard = outputs_of(make)
    mass = torch.tensor([[0.0, 0, 1], [1, 0, 0]])
    *_, same = outputs_of(make, mass=mass)
    *_, soft = outputs_of(make, mass=torch.tensor([[0.0, 0.5, 0.5], [1, 0, 0]]))
    *_, smooth = outputs_of(make, smoothing=0.2)
    assert same.item() == pytest.approx(hard.item(), rel=1e-6)
    assert soft.item() != pytest.approx(hard.item(), rel=1e-4)
    assert smooth.item() != pytest.approx(hard.item(), rel=1e-4)
    *_, nothing = outputs_of(make, weights=(0.0, 0.0))
    assert nothing.item() == 0.0


def test_reconstruction_alone_reaches_the_capsules(make):
    classifier, *_, loss = outputs_of(make, reconstruction_weight=100.0)
    loss.backward()
    without = outputs_of(make, reconstruction_weight=0.0)
    without[3].backward()
    assert classifier.net.decoder[0].weight.grad.abs().sum() > 0
    assert without[0].net.decoder[0].weight.grad is None
    assert not torch.equal(classifier.net.votes.grad, without[0].net.votes.grad)


def test_images_of_another_kind_lie_beyond_the_threshold(make):
    torch.manual_seed(0)
    classifier = make("capsnet", num_classes=2, image_size=20, architecture=SMALL)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 20, (64, 20, 20, 1), dtype=np.uint8)
    images[::2, 4:8] += 200
    images[1::2, 12:16] += 200
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    labels = Labels(torch.arange(64) % 2, torch.ones(64), None, 0.0)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=0.003)
    for _ in range(40):
        optimizer.zero_grad()
        labels.loss(classifier, classifier(pixels), pixels).backward()
        optimizer.step()
    known = reconstruction_distances(classifier, images, image_size=20, batch_size=24)
    assert classifier.training
    assert known.shape == (64,)
    assert known.dtype == np.float32
    threshold = distance_threshold(known)
    assert (known > threshold).mean() <= 0.05
    strange = images.transpose(0, 2, 1, 3)
    assert (reconstruction_distances(classifier, strange, image_size=20) > threshold).all()
    rows = np.array([5, 3])
    some = reconstruction_distances(classifier, images, image_size=20, rows=rows)
    np.testing.assert_allclose(some, known[rows], rtol=1e-4)


def test_the_threshold_is_the_quantile_of_the_validation_images():
    distances = np.linspace(0.0, 0.99, 100, dtype=np.float32)
    assert distance_threshold(distances) == pytest.approx(0.95, abs=1e-6)
    assert (distances > distance_threshold(distances)).sum() == 4
    assert distance_threshold(distances, false_alarms=0.0) == pytest.approx(0.99)
    with pytest.raises(ValueError, match="no threshold"):
        distance_threshold(distances[:0])


def test_a_network_that_draws_nothing_is_refused(make):
    images = np.zeros((1, 28, 28, 1), np.uint8)
    with pytest.raises(PipelineError, match=r"Sequential draws no images.*model 'capsnet'"):
        reconstruction_distances(make("mlp"), images, image_size=28)
