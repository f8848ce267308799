"""The average of the weights is what the definition says, and is what is validated and kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.training.ema import Average


def test_weights_and_statistics_trail_behind_as_defined():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = Average(net, decay=0.8)
    expected = {name: value.double().clone() for name, value in net.state_dict().items()}
    for step in range(60):
        net(torch.randn(8, 3))
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update(step)
        decay = min(0.8, (1 + step) / (10 + step))
        for name, value in net.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
    for name, value in average.model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert value == 60
        else:
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-5)


def test_a_constant_network_is_its_own_average_to_the_bit():
    net = nn.Linear(30, 30)
    average = Average(net, decay=0.9)
    for step in range(10):
        average.update(step)
    assert torch.equal(average.model.weight, net.weight)


def test_weights_with_two_names_are_moved_once():
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    net[1].weight = net[0].weight
    average = Average(net, decay=0.5)
    nn.init.zeros_(average.model[0].weight)
    average.update(1000)
    torch.testing.assert_close(average.model[1].weight, 0.5 * net[0].weight)


@pytest.mark.parametrize("ema", [None, 0.5])
def test_what_is_validated_and_kept_is_the_average(make_trainer, ema):
    trainer = make_trainer(ema=ema)
    trainer.train_epoch(0)
    loss, *_ = trainer.validate()
    kept = trainer.result
    assert (kept is trainer.model) == (ema is None)
    same = all(map(torch.equal, kept.parameters(), trainer.model.parameters()))
    assert same == (ema is None)
    images = trainer.val.images
    logits = kept.eval()(images.take(torch.arange(len(trainer.val))))
    plain = nn.functional.cross_entropy(logits, images.targets, label_smoothing=0.05)
    assert loss == pytest.approx(plain.item(), rel=1e-5)
