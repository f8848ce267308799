from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.evaluation.robustness.attacks import ATTACKS, find
from tests.evaluation.synthetic import make_evaluated, make_params

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 36, 3)]
    return nn.Sequential(*layers).to(DEVICE)


def images(count: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, targets and where an attack starts; some pixels are black or white."""
    torch.manual_seed(1)
    pixels = (torch.rand(count, 1, 8, 8) * 1.4 - 0.2).clamp(0, 1)
    targets, start = torch.randint(0, 3, (count,)), torch.rand(count, 1, 8, 8)
    return pixels.to(DEVICE), targets.to(DEVICE), start.to(DEVICE)


@pytest.mark.parametrize("epsilon", [0.25 / 255, 4 / 255, 0.3])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_stays_within_epsilon_and_within_the_image(name, epsilon):
    pixels, targets, start = images()
    before = pixels.clone()
    changed = ATTACKS[name](network(), pixels, targets, start, epsilon, 7)
    assert float((changed.double() - pixels.double()).abs().max()) <= epsilon + 1e-7
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    assert not torch.equal(changed, pixels)
    assert torch.equal(pixels, before)
    assert not changed.requires_grad


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_raises_the_loss_of_every_image(name):
    pixels, targets, start = images()
    net = network()

    def loss(batch: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(net(batch), targets, reduction="none")

    changed = ATTACKS[name](net, pixels, targets, start, 4 / 255, 7)
    assert (loss(changed) > loss(pixels)).all()
    assert all(parameter.grad is None for parameter in net.parameters())


def test_of_a_linear_network_both_find_the_worst_image():
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).to(DEVICE)
    pixels, targets, start = images()
    pixels, targets, epsilon = pixels * 0.5 + 0.25, targets % 2, 4 / 255
    weight = linear[1].weight.detach()
    away = (weight[1 - targets] - weight[targets]).sign().view_as(pixels)
    for attack in ATTACKS.values():
        changed = attack(linear, pixels, targets, start, epsilon, 10)
        torch.testing.assert_close(changed, pixels + epsilon * away, atol=1e-5, rtol=0)


def test_several_steps_do_at_least_as_much_harm_as_one():
    pixels, targets, start = images(64)
    net = network(3)
    losses = {}
    for name, attack in ATTACKS.items():
        changed = attack(net, pixels, targets, start, 0.1, 20)
        with torch.no_grad():
            losses[name] = float(functional.cross_entropy(net(changed), targets))
    assert losses["PGD"] >= losses["FGSM"]


def test_the_curve_begins_with_the_accuracy_without_an_adversary(tmp_path):
    evaluated = make_evaluated(make_params(tmp_path), images=60)
    found = find(evaluated)
    positions = evaluated.some_test_images(4)
    with torch.inference_mode():
        said = evaluated.classifier(evaluated.images(positions)).argmax(dim=1)
    right = float((said == evaluated.targets(positions)).double().mean())
    assert found.numbers["epsilons"] == [0.0, 1.0, 4.0]
    for curve in found.numbers["accuracy"].values():
        assert curve[0]["value"] == right
        assert all(each["value"] <= right for each in curve)
    assert find(evaluated).numbers == found.numbers
    assert not evaluated.classifier.training
