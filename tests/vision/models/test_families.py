"""What is special about one family: GoogLeNet, Inception v3, LeNet-5, the small network."""

from __future__ import annotations

import pytest
import torch

from pipeline.vision.models.inception import AuxiliaryHead
from pipeline.vision.models.lenet import TABLE_I, ConnectedConvolution, RadialBasis


def test_the_largest_convolutions_of_googlenet_are_those_of_the_paper(make):
    with torch.device("meta"):
        net = make("googlenet").net
    kernels = [m.branch3[1].conv.kernel_size for m in net.modules() if hasattr(m, "branch3")]
    assert kernels == [(5, 5)] * 9


@pytest.mark.parametrize(("side", "same"), [(17, True), (20, True), (9, False), (1, False)])
def test_the_auxiliary_head_of_inception_is_torchvisions_where_that_works(side, same):
    from torchvision.models.inception import InceptionAux

    torch.manual_seed(0)
    theirs = InceptionAux(8, 3).eval()
    maps = torch.rand(2, 8, side, side)
    ours = AuxiliaryHead(theirs)(maps)
    assert ours.shape == (2, 3)
    if same:
        assert torch.equal(ours, theirs(maps))
    assert theirs.state_dict().keys() == AuxiliaryHead(theirs).state_dict().keys()


def test_radial_codes_give_the_probabilities_of_distances():
    torch.manual_seed(0)
    layer = RadialBasis(4)
    assert set(layer.codes.flatten().tolist()) == {-1.0, 1.0}
    features = torch.randn(5, 84)
    distances = (features[:, None] - layer.codes).square().sum(dim=2)
    torch.testing.assert_close(layer(features).softmax(dim=1), (-distances / 2).softmax(dim=1))
    assert "codes" in layer.state_dict()


def test_a_connected_convolution_sees_the_maps_of_its_table_alone():
    torch.manual_seed(0)
    layer = ConnectedConvolution(6, TABLE_I, 5)
    assert sum(p.numel() for p in layer.parameters()) == 1_516
    maps = torch.rand(1, 6, 7, 7, requires_grad=True)
    for after, seen in enumerate(TABLE_I):
        maps.grad = None
        layer(maps)[0, after].sum().backward()
        assert maps.grad.abs().sum(dim=(0, 2, 3)).nonzero().flatten().tolist() == list(seen)


@pytest.mark.parametrize(
    ("side", "pooling", "seen"),
    [(28, "none", 28), (96, "none", 48), (96, "max", 48), (256, "none", 64), (256, "max", 64)],
)
def test_the_stages_of_the_small_network_see_few_pixels_whatever_the_image(
    make, side, pooling, seen
):
    with torch.device("meta"):
        net = make("small_cnn", image_size=side, architecture={"pooling": pooling}).net
        stem = net.stem(torch.empty(1, 1, side, side))
    assert stem.shape[2:] == (seen, seen)
