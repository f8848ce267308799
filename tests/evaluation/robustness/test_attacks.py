from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.evaluation.robustness.attacks import ATTACKS, find
from pipeline.vision.views import VIEWS, mean_logits, view
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


@pytest.mark.parametrize("name", ATTACKS)
def test_a_network_that_is_surer_of_the_same_answers_stands_an_attack_no_better(name):
    pixels, _, start = images(64)
    net = network()
    left = []
    for scale in (1.0, 400.0):

        def sure(batch: torch.Tensor, scale: float = scale) -> torch.Tensor:
            return scale * net(batch)

        with torch.no_grad():
            targets = sure(pixels).argmax(dim=1)
            changed = ATTACKS[name](sure, pixels, targets, start, 0.15, 10)
            left.append(float((sure(changed).argmax(dim=1) == targets).float().mean()))
    assert left[0] < 0.6
    assert left[1] <= left[0] + 0.05


@pytest.mark.parametrize(("members", "views"), [(1, "none"), (1, "flip"), (3, "none"), (3, "flip")])
def test_the_step_of_a_sure_network_goes_up_the_cross_entropy(members, views):
    pixels, _, start = images(256)
    nets = [network() for _ in range(members)]
    for i, net in enumerate(nets):
        net[-1].weight.data *= 1.0 + 0.1 * i

    def answers(batch: torch.Tensor) -> torch.Tensor:
        return torch.stack([150.0 * net(view(batch, v)) for v in VIEWS[views] for net in nets])

    def ensemble(batch: torch.Tensor) -> torch.Tensor:
        parts = torch.stack([150.0 * net(batch) for net in nets])
        return parts[0] if members == 1 else parts.log_softmax(dim=2).logsumexp(dim=0)

    with torch.no_grad():
        said = answers(pixels).argmax(dim=2)
    agreed = (said == said[0]).all(dim=0)
    pixels, targets, start = pixels[agreed], said[0][agreed], start[agreed]
    changed = ATTACKS["FGSM"](
        lambda batch: mean_logits(ensemble, batch, views, torch.contiguous_format),
        *(pixels, targets, start, 1e-3, 1),
    )

    for net in nets:
        net.double()
    exact = pixels.double().requires_grad_()
    loss = functional.nll_loss(
        answers(exact).softmax(dim=2).mean(dim=0).log(), targets, reduction="none"
    )
    loss.sum().backward()
    sure = (loss > 1e-13) & (loss < 1e-8)
    judged = sure[:, None, None, None] & (pixels > 0) & (pixels < 1)
    assert judged.sum() > 500
    same = (changed - pixels).sign() == exact.grad.sign()
    assert float(same[judged].float().mean()) > 0.99


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
