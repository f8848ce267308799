"""Boltzmann machines small enough to enumerate: what is learned is the likelihood's gradient."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from pipeline.vision.models.rbm import RBM, StackedRBM

VISIBLE, HIDDEN = 5, 3


def states(units: int) -> Tensor:
    """All 2 ** ``units`` of them."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=units)), dtype=torch.float64)


def machine(*, gaussian: bool = False, spread: float = 1.0) -> RBM:
    torch.manual_seed(0)
    rbm = RBM(VISIBLE, HIDDEN, gaussian=gaussian).double()
    with torch.no_grad():
        for parameter in rbm.parameters():
            parameter.normal_(0.0, spread)
    return rbm


def energy(rbm: RBM, visible: Tensor, hidden: Tensor) -> Tensor:
    """(A, D), (B, H) -> (A, B), written out from the definition."""
    own = -(visible @ rbm.visible_bias)
    if rbm.gaussian:
        own = 0.5 * ((visible - rbm.visible_bias) ** 2).sum(dim=1)
    return own[:, None] - (hidden @ rbm.hidden_bias)[None] - visible @ rbm.weight.t() @ hidden.t()


def log_likelihood(rbm: RBM, data: Tensor) -> Tensor:
    """The mean over ``data``, by enumeration of all states."""
    log_partition = torch.logsumexp(-energy(rbm, states(VISIBLE), states(HIDDEN)).flatten(), dim=0)
    return torch.logsumexp(-energy(rbm, data, states(HIDDEN)), dim=1).mean() - log_partition


def gradient(value: Tensor, rbm: RBM) -> Tensor:
    parts = torch.autograd.grad(value, list(rbm.parameters()))
    return torch.cat([part.flatten() for part in parts])


def data_of(count: int) -> Tensor:
    """Two patterns with a little noise."""
    torch.manual_seed(1)
    patterns = torch.tensor([[1, 1, 0, 0, 1], [0, 0, 1, 1, 0]], dtype=torch.float64)
    data = patterns[torch.arange(count) % 2]
    return (data + (torch.rand_like(data) < 0.05)) % 2


@pytest.mark.parametrize("gaussian", [False, True])
def test_the_free_energy_sums_over_all_hidden_states(gaussian):
    rbm = machine(gaussian=gaussian)
    visible = torch.randn(7, VISIBLE, dtype=torch.float64) if gaussian else states(VISIBLE)
    expected = -torch.logsumexp(-energy(rbm, visible, states(HIDDEN)), dim=1)
    torch.testing.assert_close(rbm.free_energy(visible), expected)


def test_the_hidden_probabilities_are_those_of_the_energy():
    rbm = machine()
    share = (-energy(rbm, states(VISIBLE), states(HIDDEN))).softmax(dim=1)
    torch.testing.assert_close(rbm.hidden(states(VISIBLE)), share @ states(HIDDEN))


@pytest.mark.parametrize("gaussian", [False, True])
def test_many_gibbs_steps_draw_from_the_models_distribution(gaussian):
    rbm = machine(gaussian=gaussian, spread=0.5)
    torch.manual_seed(2)
    drawn = rbm.sample(torch.zeros(20_000, VISIBLE, dtype=torch.float64), 50)
    # The mean over the hidden states h, of which each has the weight of all visible ones with it.
    h = states(HIDDEN)
    inputs = h @ rbm.weight + rbm.visible_bias
    if gaussian:
        log_weight = 0.5 * (inputs**2 - rbm.visible_bias**2).sum(dim=1)
    else:
        log_weight = torch.nn.functional.softplus(inputs).sum(dim=1)
    share = (log_weight + h @ rbm.hidden_bias).softmax(dim=0)
    torch.testing.assert_close(drawn.mean(dim=0), share @ rbm.visible(h), rtol=0, atol=0.03)


@pytest.mark.parametrize("steps", [1, 3])
def test_contrastive_divergence_points_where_the_likelihood_rises(steps):
    rbm = machine(spread=0.3)
    stack, data = StackedRBM([], rbm, steps=steps).double(), data_of(8)
    torch.manual_seed(3)
    images = data.repeat(4000, 1)[:, None, None]
    loss = stack.training_loss(stack(images), images)
    exact = gradient(log_likelihood(rbm, data), rbm)
    cosine = torch.cosine_similarity(-gradient(loss, rbm), exact, dim=0)
    assert cosine > 0.95
    # The value is the reconstruction error, of which the gradient above is not that.
    errors = stack.errors(stack.eval()(images), images)
    assert loss.item() == pytest.approx(errors.mean().item())


def test_learning_raises_the_exact_likelihood_towards_its_bound():
    rbm = machine(spread=0.01)
    stack, data = StackedRBM([], rbm, steps=1).double(), data_of(64)
    images = data[:, None, None]
    before = log_likelihood(rbm, data).item()
    torch.manual_seed(4)
    for _ in range(1500):
        stack.zero_grad()
        stack.training_loss(stack(images), images).backward()
        with torch.no_grad():
            for parameter in rbm.parameters():
                parameter.sub_(0.1 * parameter.grad)
    _, counts = data.unique(dim=0, return_counts=True)
    entropy = -(counts / 64 * (counts / 64).log()).sum().item()  # no model can do better
    after = log_likelihood(rbm, data).item()
    assert before == pytest.approx(-VISIBLE * math.log(2), abs=0.05)
    assert after > before + 0.6 * (-entropy - before)


def test_a_machine_on_top_sees_the_probabilities_of_the_ones_below_and_leaves_them():
    below = machine()
    torch.manual_seed(5)
    stack = StackedRBM([below], RBM(HIDDEN, 4, gaussian=False).double(), steps=1)
    images = states(VISIBLE)[:, None, None]
    seen, sampled = stack(images)
    assert torch.equal(seen, below.hidden(states(VISIBLE)))
    assert sampled.shape == seen.shape
    stack.training_loss((seen, sampled), images).backward()
    assert all(parameter.grad is None for parameter in below.parameters())
    assert {name for name, _ in stack.named_parameters()} == {
        *("rbm.weight", "rbm.visible_bias", "rbm.hidden_bias")
    }
