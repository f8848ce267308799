from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.evaluation.cost import find, measure_cost
from pipeline.vision.models import build
from pipeline.vision.models.classifier import Classifier, Normalise
from tests.evaluation.synthetic import make_evaluated, make_params


def built(model: str, **sizes: int) -> Classifier:
    colours = {"channels": 3, "mean": (0.5,) * 3, "std": (0.2,) * 3}
    return build(model, architecture={}, **colours, **sizes).eval()


def test_the_cost_of_a_small_network_is_worked_out_by_hand():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 64, 2))
    classifier = Classifier(Normalise([0.5], [0.2]), net, channels=1, num_classes=2).eval()
    cost = measure_cost(classifier, 8)
    assert cost.parameters == (4 * 9 + 4) + (2 * 256 + 2)
    assert cost.multiply_adds == 64 * 4 * 9 + 2 * 256
    assert cost.weights_bytes == 4 * (cost.parameters + 2)  # and mean and spread
    assert cost.activations_bytes == 4 * (256 + 256)  # in and out of flatten


def test_resnet18_has_the_multiply_adds_of_its_paper():
    cost = measure_cost(built("torchvision:resnet18", num_classes=1000, image_size=224), 224)
    assert cost.multiply_adds == pytest.approx(1.814e9, rel=0.005)
    assert cost.parameters == 11_689_512


def test_views_cost_as_often_as_there_are_and_hooks_are_gone(tmp_path):
    evaluated = make_evaluated(make_params(tmp_path))
    once = measure_cost(evaluated.classifier, 16)
    evaluated.classifier.views = "flips"
    assert measure_cost(evaluated.classifier, 16).multiply_adds == 4 * once.multiply_adds
    assert not any(module._forward_hooks for module in evaluated.classifier.modules())


def test_times_are_kept_apart_from_what_is_the_same_everywhere(tmp_path):
    found = find(make_evaluated(make_params(tmp_path)))
    assert not any("ms" in name for name in found.numbers)
    assert found.timings["batch_1_ms"] > 0
    assert found.timings["precision"] == "float32"


@pytest.mark.parametrize(
    "model", ["torchvision:resnet18", "torchvision:swin_t", "timm:vit_tiny_patch16_224", "capsnet"]
)
def test_multiply_adds_are_those_that_pytorch_counts(model):
    network = built(model, num_classes=2, image_size=64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 64, 64))
    assert measure_cost(network, 64).multiply_adds == counter.get_total_flops() // 2
