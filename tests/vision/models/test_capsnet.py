"""Capsules: their lengths, their routing and both losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training.objective import Labels
from pipeline.vision.models.capsnet import lengths, margin_loss, route, squash

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
