"""What holds of every attribution method, and each beside captum's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pipeline.evaluation.explain import METHODS, CannotExplain
from pipeline.evaluation.explain.gradient import BATCH
from pipeline.evaluation.explain.integrated_gradients import (
    completeness_gap,
    integrated_gradients,
)
from pipeline.evaluation.explain.occlusion import occlusion
from pipeline.vision.models import build
from tests.evaluation.explain.networks import SAME, SIDE, Assigning, Plain, Residual, trained

MIN_HITS = {"saliency": 0.4, "deconvnet": 0.0, "grad_cam": 0.4}
"""Of the pointing game; the others must reach 0.9. A patch covers a tenth of an image. Deconvnet
sends back what a class looks like and is no evidence of where it is (Mahendran and Vedaldi, 2016);
the cells of Grad-CAM are nearly as large as the patch."""


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def images_and_targets(count: int = 5) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(count, 2, SIDE, SIDE), torch.arange(count) % 3


def test_a_map_has_the_size_of_its_image_and_the_network_stays_as_it_was(method):
    network = trained(Plain)
    network.train()
    network.norm.eval()  # as where statistics are frozen
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images, targets = images_and_targets()
    kept = images.clone()
    maps = method.explain(network, images, targets)
    assert maps.shape == (5, 1, SIDE, SIDE)
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()
    assert not maps.requires_grad
    assert method.signed or (maps >= 0).all()
    assert images.equal(kept)
    assert network.training
    assert not network.norm.training
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, value in network.state_dict().items():
        assert value.equal(before[name]), name


def test_an_image_is_explained_the_same_in_any_batch_and_inside_no_grad(method):
    network = trained(Plain)
    images, targets = images_and_targets(BATCH + 2)
    together = method.explain(network, images, targets)
    assert len(together) == len(images)
    for i in (0, 1, BATCH - 1, BATCH, BATCH + 1):
        with torch.no_grad():
            alone = method.explain(network, images[i : i + 1], targets[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-6)


def test_the_logit_of_the_target_is_explained(method):
    network = trained(Plain)
    images, targets = images_and_targets()
    ours = method.explain(network, images, targets)
    other = method.explain(network, images, (targets + 1) % 3)
    assert not torch.allclose(ours, other)


@pytest.mark.parametrize("kind", SAME)
def test_the_way_a_network_is_written_does_not_change_its_explanation(method, kind):
    images, targets = images_and_targets()
    expected = method.explain(trained(Plain), images, targets)
    found = method.explain(trained(SAME[kind]), images, targets)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_grad_cam_follows_maps_that_are_written_into():
    images, targets = images_and_targets()
    method = METHODS["grad_cam"].explain
    expected = method(trained(Plain), images, targets)
    torch.testing.assert_close(method(trained(Assigning), images, targets), expected)


def test_maps_point_at_the_patch_that_says_the_class(method, learned):
    """The pointing game (Zhang et al., 2016) with exact masks."""
    test = learned.test
    maps = method.explain(learned.network, test.images, test.targets)
    highest = maps.flatten(1).argmax(dim=1, keepdim=True)
    hits = test.masks.flatten(1).gather(1, highest).float().mean().item()
    name = next(key for key, value in METHODS.items() if value is method)
    assert hits >= MIN_HITS.get(name, 0.9)


@pytest.mark.parametrize("size", [(24, 24), (24, 40)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_and_number_of_channels_is_explained(method, size, channels):
    network = build(
        "small_cnn",
        channels=channels,
        num_classes=4,
        image_size=24,
        architecture={"width": 4},
        mean=(0.5,) * channels,
        std=(0.2,) * channels,
    )
    images = torch.rand(2, channels, *size)
    assert method.explain(network, images, torch.tensor([3, 0])).shape == (2, 1, *size)


def reduced(attributions: Tensor) -> Tensor:
    return attributions.abs().amax(dim=1, keepdim=True)


def theirs(name: str, network: Plain, images: Tensor, targets: Tensor) -> Tensor:
    """The maps of captum, reduced to one channel as ours are."""
    attr = pytest.importorskip("captum.attr")
    if name == "saliency":
        return reduced(attr.Saliency(network).attribute(images, targets))
    if name == "integrated_gradients":
        found = attr.IntegratedGradients(network).attribute(
            images,
            target=targets,
            n_steps=32,
            baselines=images.mean(dim=(2, 3), keepdim=True).expand_as(images),
        )
        return found.sum(dim=1, keepdim=True).float()
    if name == "guided_backprop":
        return reduced(attr.GuidedBackprop(network).attribute(images, target=targets))
    if name == "deconvnet":
        return reduced(attr.Deconvolution(network).attribute(images, target=targets))
    if name == "occlusion":
        occluded = attr.Occlusion(network).attribute(
            images,
            sliding_window_shapes=(2, SIDE // 8, SIDE // 8),
            strides=(2, SIDE // 16, SIDE // 16),
            target=targets,
            baselines=images.mean(dim=(2, 3), keepdim=True).expand_as(images),
        )
        return occluded[:, :1]
    cam = attr.LayerGradCam(network, network.rectify_again)
    maps = cam.attribute(images, target=targets, relu_attributions=True)
    return attr.LayerAttribution.interpolate(maps, (SIDE, SIDE), "bilinear")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", METHODS)
def test_maps_are_those_of_captum(name):
    network = trained(Plain)
    images, targets = images_and_targets()
    expected = theirs(name, network, images, targets).detach()
    found = METHODS[name].explain(network, images, targets)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_integrated_gradients_add_up_to_the_difference_of_the_logits(learned):
    test = learned.test
    for baseline in (None, 0.0, test.images.flip(0)):
        gaps = []
        for steps in (8, 64):
            maps = integrated_gradients(
                learned.network, test.images, test.targets, baseline=baseline, steps=steps
            )
            gap = completeness_gap(
                learned.network, test.images, test.targets, maps, baseline=baseline
            )
            gaps.append(gap.median().item())
        assert gaps[1] < 0.02
        assert gaps[1] < gaps[0]


def test_integrated_gradients_of_a_linear_network_are_weight_times_change():
    network = nn.Sequential(nn.Flatten(), nn.Linear(2 * 4 * 4, 3))
    images, targets = torch.rand(3, 2, 4, 4), torch.tensor([2, 0, 1])
    weights = network[1].weight[targets].view(3, 2, 4, 4)
    expected = (weights * (images - 0.3)).sum(dim=1, keepdim=True)
    found = integrated_gradients(network, images, targets, baseline=0.3, steps=3)
    torch.testing.assert_close(found, expected.detach())


def test_occlusion_of_a_linear_network_is_what_the_patch_holds():
    """Every pixel weighs 1, so a black patch costs the sum of what it covers."""

    class Sum(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.sum(dim=(2, 3))

    images = torch.rand(2, 1, 6, 6)
    found = occlusion(Sum(), images, torch.zeros(2, dtype=torch.int64), window=2, stride=2, fill=0)
    blocks = nn.functional.avg_pool2d(images, 2) * 4
    torch.testing.assert_close(found, blocks.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_grad_cam_takes_the_sum_of_a_residual_block_not_one_of_its_branches():
    torch.manual_seed(0)
    network = Residual()
    images, targets = images_and_targets()
    # By hand: the head averages the maps, so a map's weight is that of the head.
    maps = network.block(images)
    weights = network.head.weight[targets][:, :, None, None] / maps[0, 0].numel()
    cam = (weights * maps).sum(dim=1, keepdim=True).relu()
    expected = nn.functional.interpolate(cam, (SIDE, SIDE), mode="bilinear")
    torch.testing.assert_close(METHODS["grad_cam"].explain(network, images, targets), expected)


def test_images_that_are_no_batch_of_numbers_are_a_mistake(method):
    with pytest.raises(ValueError, match="not float"):
        METHODS["saliency"].explain(trained(Plain), torch.zeros(2, SIDE, SIDE), torch.zeros(2))


@pytest.mark.parametrize("name", ["saliency", "integrated_gradients", "grad_cam"])
def test_a_network_without_gradients_is_refused(name):
    class Silent(Plain):
        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(images)

    class Cut(Plain):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.detach())

    images, targets = images_and_targets()
    for network in (Silent(), Cut()):
        with pytest.raises(CannotExplain, match="gradient"):
            METHODS[name].explain(network, images, targets)
