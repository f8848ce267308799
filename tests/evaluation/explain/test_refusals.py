"""What a method cannot handle is refused by what ran, never explained wrongly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pipeline.evaluation.explain import METHODS, CannotExplain
from pipeline.vision.models import build
from tests.evaluation.explain.networks import (
    NOT_RECTIFIERS,
    SIDE,
    WITHOUT_FEATURE_MAPS,
    Beside,
    Linear,
    Plain,
    trained,
)

RECTIFIER_METHODS = ("guided_backprop", "deconvnet")


def explain(name: str, network: nn.Module) -> Tensor:
    torch.manual_seed(1)
    return METHODS[name].explain(network, torch.rand(2, 2, SIDE, SIDE), torch.tensor([0, 2]))


@pytest.mark.parametrize("name", RECTIFIER_METHODS)
@pytest.mark.parametrize("bend", NOT_RECTIFIERS)
def test_a_network_with_more_than_rectifiers_is_refused(name, bend):
    with pytest.raises(CannotExplain, match=r"also runs|cannot reach all rectifiers"):
        explain(name, Beside(NOT_RECTIFIERS[bend]))


@pytest.mark.parametrize("name", RECTIFIER_METHODS)
def test_a_network_without_rectifiers_is_refused(name):
    with pytest.raises(CannotExplain, match="runs none"):
        explain(name, Linear())


@pytest.mark.parametrize("name", RECTIFIER_METHODS)
def test_a_rectifier_that_is_computed_again_on_the_way_back_is_refused(name):
    class Checkpointed(Plain):
        def forward(self, images: Tensor) -> Tensor:
            features = torch.utils.checkpoint.checkpoint(
                lambda x: self.pool(self.rectify(self.norm(self.first(x)))),
                images,
                use_reentrant=True,
            )
            features = self.rectify_again(self.second(features))
            return self.head(self.rectify_once_more(self.hidden(features.flatten(1))))

    with pytest.raises(CannotExplain, match="3 ran, 2 are"):
        explain(name, Checkpointed())


@pytest.mark.filterwarnings("ignore")
def test_hooks_on_modules_would_be_wrong_where_ours_are_right():
    """The trap is one: captum's modules see no function, and its map is the plain gradient's."""
    attr = pytest.importorskip("captum.attr")
    from tests.evaluation.explain.networks import Functions

    network = trained(Functions)
    torch.manual_seed(1)
    images, targets = torch.rand(2, 2, SIDE, SIDE), torch.tensor([0, 2])
    naive = attr.GuidedBackprop(network).attribute(images, target=targets)
    naive = naive.abs().amax(dim=1, keepdim=True)
    plain = METHODS["saliency"].explain(network, images, targets)
    torch.testing.assert_close(naive, plain)
    assert not torch.allclose(explain("guided_backprop", network), plain)


@pytest.mark.parametrize("kind", WITHOUT_FEATURE_MAPS)
def test_grad_cam_is_refused_without_feature_maps_that_decide(kind):
    network, message = WITHOUT_FEATURE_MAPS[kind]
    with pytest.raises(CannotExplain, match=message):
        explain("grad_cam", network())


@pytest.mark.parametrize("name", METHODS)
def test_a_network_of_the_default_params_is_explained_by_every_method(name):
    network = build(
        "small_cnn",
        channels=1,
        num_classes=2,
        image_size=32,
        architecture={},
        mean=(0.5,),
        std=(0.2,),
    )
    assert METHODS[name].explain(network, torch.rand(1, 1, 32, 32), torch.tensor([1])).any()


@pytest.mark.parametrize(
    ("model", "refused"),
    [
        ("torchvision:resnet18", set()),
        ("torchvision:vgg11_bn", set()),
        ("torchvision:squeezenet1_1", set()),
        ("torchvision:densenet121", set()),
        ("timm:regnetx_002", set()),
        ("torchvision:convnext_tiny", {"guided_backprop", "deconvnet"}),
        ("torchvision:mobilenet_v3_small", {"guided_backprop", "deconvnet"}),
        ("torchvision:swin_t", {"guided_backprop", "deconvnet", "grad_cam"}),
        ("timm:vit_tiny_patch16_224", {"guided_backprop", "deconvnet", "grad_cam"}),
        ("timm:mixer_s32_224", {"guided_backprop", "deconvnet", "grad_cam"}),
    ],
)
@pytest.mark.slow
def test_networks_of_the_libraries_are_explained_or_refused(model, refused):
    network = build(
        model,
        channels=3,
        num_classes=2,
        image_size=64,
        architecture={},
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
    )
    images, targets = torch.rand(1, 3, 64, 64), torch.tensor([1])
    for name in set(METHODS) - {"occlusion"}:
        if name in refused:
            with pytest.raises(CannotExplain):
                METHODS[name].explain(network, images, targets)
        else:
            maps = METHODS[name].explain(network, images, targets)
            assert maps.shape == (1, 1, 64, 64), name
            assert torch.isfinite(maps).all(), name
