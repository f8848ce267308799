"""Sanity checks of explanations, and that they have the power to fail."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import groupby

import pytest
import torch
from torch import Tensor, nn

from pipeline.evaluation.explain import METHODS
from pipeline.evaluation.explain.covers import COVERS, blurred
from pipeline.evaluation.explain.edges import sobel
from pipeline.evaluation.explain.faithfulness import REFERENCES, deletion_and_insertion
from pipeline.evaluation.explain.randomisation import (
    cascade,
    layers_from_the_logits,
    rank_correlation,
)
from pipeline.inspection.trace import trace
from pipeline.vision.models import MODELS, build
from tests.evaluation.explain.networks import Inverted, Owning, trained
from tests.evaluation.explain.pasted import fit, make_network

QUICK = ("small_cnn", "nielsen", "lenet5", "capsnet", "ensemble", "mlp")
"""Networks whose layers are looked at in every run of the tests; all others' in the long one."""


def similarities(learned, name: str, seed: int = 0) -> list[float]:
    test = learned.test
    lost = cascade(learned.network, test.images, test.targets, METHODS[name].explain, seed=seed)
    return [each.similarity for each in lost]


@pytest.mark.parametrize(
    ("name", "limit"), [("saliency", 0.3), ("grad_cam", 0.3), ("integrated_gradients", 0.65)]
)
def test_a_map_changes_when_the_weights_are_lost(learned, name, limit):
    *_, all_lost = similarities(learned, name)
    assert all_lost < limit


@pytest.mark.parametrize("seed", [0, 1])
def test_guided_backprop_hardly_changes_when_half_of_the_layers_are_lost(learned, seed):
    """Its known failure (Adebayo et al., 2018): the check can tell a method that fails it."""
    _, guided, _ = similarities(learned, "guided_backprop", seed)
    _, plain, _ = similarities(learned, "saliency", seed)
    assert guided > 0.65
    assert plain < 0.5
    assert guided > plain + 0.25


def test_a_map_that_knows_nothing_of_the_network_does_not_change(learned):
    test = learned.test
    lost = cascade(learned.network, test.images, test.targets, REFERENCES["sobel"])
    assert [each.similarity for each in lost] == pytest.approx([1.0] * 3)


def test_the_cascade_leaves_the_network_as_it_was(learned):
    before = copy.deepcopy(learned.network.state_dict())
    similarities(learned, "saliency")
    for name, value in learned.network.state_dict().items():
        assert value.equal(before[name]), name


def test_layers_are_lost_in_the_order_in_which_they_run():
    layers = layers_from_the_logits(trained(Inverted), torch.rand(1, 2, 16, 16))
    expected = ["head", "hidden", "beside", "second", "norm", "first"]
    assert layers == [(f"{name}.weight", f"{name}.bias") for name in expected]


def test_parameters_count_where_they_are_used_not_where_they_are_kept():
    layers = layers_from_the_logits(trained(Owning), torch.rand(1, 2, 16, 16))
    assert layers[:3] == [
        ("temperature",),
        ("head.weight", "head.bias"),
        ("hidden.weight", "hidden.bias"),
    ]
    assert layers[-1] == ("shift",)


@pytest.mark.zoo
@pytest.mark.parametrize(
    "model",
    [model if model in QUICK else pytest.param(model, marks=pytest.mark.slow) for model in MODELS],
)
def test_every_own_network_loses_first_what_is_nearest_to_the_logits(model):
    """As the trace has it, which looks at shapes alone."""
    network = build(
        model,
        channels=1,
        num_classes=3,
        image_size=65,
        architecture={},
        mean=(0.5,),
        std=(0.2,),
    )
    layers = layers_from_the_logits(network, torch.rand(1, 1, 65, 65))
    operations = trace(network.to("meta"), channels=1, image_size=65)
    used = {name: None for each in operations for name in sorted(each.parameters)}
    modules = [name.rpartition(".")[0] for name in reversed(used)]
    assert [layer[0].rpartition(".")[0] for layer in layers] == [
        name for name, _ in groupby(modules)
    ]
    assert sum(map(len, layers)) == len(used)


def test_maps_of_shuffled_labels_are_other_maps(learned):
    """The data randomisation of Adebayo et al.: what is learned shows, not only what is there."""
    train, test = learned.train, learned.test
    order = torch.randperm(len(train.targets), generator=torch.Generator().manual_seed(0))
    network = make_network().to(test.images.device)
    fit(network, replace(train, targets=train.targets[order.to(train.targets.device)]), steps=60)
    for name in ("saliency", "grad_cam"):
        explain = METHODS[name].explain
        learned_maps = explain(learned.network, test.images, test.targets)
        shuffled = explain(network, test.images, test.targets)
        assert rank_correlation(learned_maps, shuffled).mean() < 0.4, name


def areas(learned, explain, cover: str) -> tuple[float, float]:
    test = learned.test
    maps = explain(learned.network, test.images, test.targets)
    curves = deletion_and_insertion(
        learned.network, test.images, test.targets, maps, COVERS[cover](test.images)
    )
    deletion, insertion = curves.areas()
    return float(deletion.mean()), float(insertion.mean())


@pytest.mark.parametrize("cover", COVERS)
@pytest.mark.parametrize("name", ["saliency", "grad_cam", "integrated_gradients"])
def test_what_a_map_shows_decides_more_than_places_drawn_at_random(learned, name, cover):
    deletion, insertion = areas(learned, METHODS[name].explain, cover)
    at_random = areas(learned, REFERENCES["random"], cover)
    assert deletion < at_random[0] - 0.1
    assert insertion > at_random[1] + 0.05


def test_integrated_gradients_are_better_than_edges(learned):
    for cover in COVERS:
        deletion, insertion = areas(learned, METHODS["integrated_gradients"].explain, cover)
        edges = areas(learned, REFERENCES["sobel"], cover)
        assert deletion < edges[0]
        assert insertion > edges[1] - 0.01


class Share(nn.Module):
    """Two classes whose probabilities are the share of white pixels, and the rest."""

    def forward(self, images: Tensor) -> Tensor:
        white = images.mean(dim=(1, 2, 3)).clamp(1e-6, 1 - 1e-6)
        return torch.stack([white, 1 - white], dim=1).log()


def test_curves_worked_by_hand():
    images = torch.zeros(1, 1, 4, 4)
    images[..., 0, :] = 1  # a quarter is white
    target = torch.tensor([0])
    curves = deletion_and_insertion(
        Share(), images, target, images, torch.zeros_like(images), steps=4
    )
    expected = torch.tensor([[0.25, 0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(curves.deletion, expected, atol=1e-5, rtol=0)
    expected = torch.tensor([[0.0, 0.25, 0.25, 0.25, 0.25]])
    torch.testing.assert_close(curves.insertion, expected, atol=1e-5, rtol=0)
    deletion, insertion = curves.areas()
    assert deletion.item() == pytest.approx(0.25 / 8, abs=1e-5)
    assert insertion.item() == pytest.approx(0.25 * 7 / 8, abs=1e-5)


def test_rank_correlation_is_that_of_scipy():
    from scipy.stats import spearmanr

    torch.manual_seed(0)
    maps, others = torch.randn(4, 1, 6, 6), torch.randn(4, 1, 6, 6)
    maps[1].clamp_(min=0)  # many equal values
    expected = [
        spearmanr(a.abs().flatten(), b.abs().flatten()).statistic
        for a, b in zip(maps, others, strict=True)
    ]
    assert rank_correlation(maps, others) == pytest.approx(expected)
    assert rank_correlation(maps, torch.zeros_like(maps)) == pytest.approx([0.0] * 4)


def test_sobel_is_that_of_scipy_and_at_most_one():
    from scipy.ndimage import sobel as reference

    torch.manual_seed(0)
    images = torch.rand(2, 1, 9, 7)
    for image, found in zip(images, sobel(images), strict=True):
        slopes = [reference(image[0].numpy(), axis=axis, mode="nearest") / 4 for axis in (0, 1)]
        size = torch.tensor((slopes[0] ** 2 + slopes[1] ** 2) ** 0.5 / 2**0.5)
        torch.testing.assert_close(found[0], size, rtol=1e-4, atol=1e-5)
    black_to_white = torch.zeros(1, 1, 8, 8)
    black_to_white[..., 4:] = 1
    diagonal = torch.ones(8, 8).tril()[None, None]
    for images in (black_to_white, diagonal, torch.randint(2, (8, 3, 8, 8)).float()):
        assert sobel(images).max() <= 1


def test_blurring_keeps_the_mean_and_loses_the_detail():
    torch.manual_seed(0)
    images = torch.rand(3, 2, 24, 16)
    soft = blurred(images)
    assert soft.shape == images.shape
    assert soft.std() < 0.15 * images.std()
    constant = torch.full((1, 1, 9, 9), 0.3)
    torch.testing.assert_close(blurred(constant), constant)
