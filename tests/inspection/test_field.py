"""Receptive fields against hand-worked and published values, and against gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.inspection.field import Window
from pipeline.inspection.layers import anatomy
from pipeline.inspection.specimen import Subject, blank
from pipeline.inspection.trace import Operation, trace


def last_map(net: nn.Module, side: int = 32, channels: int = 1) -> Operation:
    """What the last operation on maps, or at all, sees."""
    operations = trace(net.to("meta"), channels=channels, image_size=side)
    maps = [each for each in operations if len(each.shape) == 4]
    return (maps or operations)[-1]


@pytest.mark.parametrize(
    ("model", "size", "jump"),
    [
        # Araujo, Norris and Sim, 2019; ResNet-50 with the stride in its 3×3 convolutions.
        ("torchvision:alexnet", 195, 32),
        ("torchvision:vgg16", 212, 32),
        ("torchvision:resnet18", 435, 32),
        ("torchvision:resnet50", 427, 32),
        ("torchvision:inception_v3", 1311, 32),
    ],
)
def test_published_fields(model, size, jump):
    side = 299 if "inception" in model else 224
    found = anatomy(blank(Subject(model, side, 3, 1000)), channels=3, image_size=side)
    assert found.field(found.last_map) == f"{size}"
    assert found.last_map.reach.jump == (jump, jump)


def test_two_small_convolutions_see_as_much_as_a_large_one():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1))
    reach = last_map(net).reach
    assert reach.size == (5, 5)
    assert (reach.top, reach.bottom) == (13, 17)  # around the middle of 32, which is 15
    assert reach.jump == (1, 1)


def test_gaps_strides_and_unequal_kernels():
    net = nn.Sequential(
        nn.Conv2d(1, 1, (1, 7), padding=(0, 3)),  # 1 × 7
        nn.Conv2d(1, 1, 3, stride=2, padding=1),  # 3 × 9, jump 2
        nn.Conv2d(1, 1, 3, padding=2, dilation=2),  # 3 + 4·2 × 9 + 4·2
        nn.MaxPool2d(2),  # + 2, jump 4
    )
    reach = last_map(net).reach
    assert reach.size == (13, 19)
    assert reach.jump == (4, 4)


def test_a_field_larger_than_the_image_is_not_cut_off():
    layers = [nn.Conv2d(1, 1, 3, stride=2, padding=1) for _ in range(6)]  # down to one pixel
    assert last_map(nn.Sequential(*layers, nn.Conv2d(1, 1, 3, padding=1))).reach.size == (255, 255)


class Branches(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module, merge: str) -> None:
        super().__init__()
        # In another order than they run in: only what is executed may count.
        self.second, self.first, self.merge = second, first, merge

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first, second = self.first(images), self.second(images)
        return first + second if self.merge == "add" else torch.cat([first, second], 1)


@pytest.mark.parametrize("merge", ["add", "cat"])
@pytest.mark.parametrize("swapped", [False, True])
def test_where_branches_meet_the_largest_field_counts(merge, swapped):
    branches = [nn.Conv2d(1, 4, 7, padding=3), nn.Conv2d(1, 4, 3, padding=1)]
    net = Branches(*(reversed(branches) if swapped else branches), merge)
    assert last_map(net).reach.size == (7, 7)
    behind = nn.Sequential(net, nn.Conv2d(8 if merge == "cat" else 4, 2, 3, padding=1))
    assert last_map(behind).reach.size == (9, 9)


class Gate(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps * maps.mean((2, 3), keepdim=True).sigmoid()


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 8, stride=8)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Conv2d(1, 2, 3), Gate()),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1)),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveMaxPool2d(1), nn.Conv2d(2, 2, 1)),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(1800, 3)),
        Attention(),
    ],
    ids=["gate", "global average", "global maximum", "dense", "attention"],
)
def test_what_depends_on_all_positions_sees_the_whole_image(net):
    operations = trace(net.to("meta"), channels=1, image_size=32)
    assert operations[-1].reach.covers(32)
    assert not operations[0].reach.covers(32)


class Split(nn.Module):
    """Space to depth by hand, as code for other frameworks does it."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.cat([maps[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)


@pytest.mark.parametrize(
    "rearrange",
    [nn.PixelUnshuffle(2), Split(), nn.Unfold(2, stride=2)],
    ids=["unshuffle", "slices", "patches"],
)
def test_pixels_that_become_channels_make_a_field(rearrange):
    layers = [rearrange]
    if isinstance(rearrange, nn.Unfold):
        layers.append(nn.Unflatten(2, (16, 16)))
    layers.append(nn.Conv2d(4, 2, 3, padding=1))
    reach = last_map(nn.Sequential(*layers)).reach
    assert reach.size == (6, 6)
    assert reach.jump == (2, 2)


def test_channels_of_another_order_change_nothing():
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ChannelShuffle(2), nn.Conv2d(8, 8, 3, groups=8, padding=1)
    )
    assert last_map(net).reach.size == (5, 5)


def test_what_no_rule_describes_is_not_claimed():
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Upsample(scale_factor=2, mode="bicubic"))
    found = anatomy(net.to("meta"), channels=1, image_size=16)
    assert not found.layers[-1].reach.known
    assert found.field(found.layers[-1]) == "–"


@st.composite
def layers(draw: st.DrawFn) -> list[nn.Module]:
    """Convolutions and poolings in a row whose last window ends where the image does."""
    side, found = 33, list[nn.Module]()
    for _ in range(draw(st.integers(1, 4))):
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        dilation = draw(st.integers(1, 2))
        padding = draw(st.integers(0, kernel // 2))
        window = Window((kernel,) * 2, (stride,) * 2, (padding,) * 2, (dilation,) * 2)
        after = window.output_size(side)
        reach = dilation * (kernel - 1) + 1
        if after < 3 or (side + 2 * padding - reach) % stride:
            continue
        if draw(st.booleans()) and dilation == 1:
            found.append(nn.AvgPool2d(kernel, stride, padding))
        else:
            found.append(nn.Conv2d(1, 1, kernel, stride, padding, dilation))
        side = after
    return found


@settings(max_examples=40, deadline=None)
@given(layers())
def test_a_field_is_where_the_gradient_is_not_zero(found):
    net = nn.Sequential(nn.Identity(), *found).double()
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    image = torch.ones(1, 1, 33, 33, dtype=torch.float64, requires_grad=True)
    maps = net(image)
    middle = (maps.shape[2] - 1) // 2
    (gradient,) = torch.autograd.grad(maps[0, 0, middle, middle], image)
    rows = gradient[0, 0].sum(1).nonzero().flatten().tolist()
    columns = gradient[0, 0].sum(0).nonzero().flatten().tolist()
    if not found:
        return
    reach = last_map(net.float(), side=33).reach
    for ends, seen in (((reach.top, reach.bottom), rows), ((reach.left, reach.right), columns)):
        assert (max(ends[0], 0), min(ends[1], 32)) == (seen[0], seen[-1])


@given(
    st.integers(1, 64), st.integers(1, 7), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3)
)
def test_the_side_of_a_map_follows_the_formula(side, kernel, stride, padding, dilation):
    window = Window((kernel,) * 2, (stride,) * 2, (padding,) * 2, (dilation,) * 2)
    if side + 2 * padding < dilation * (kernel - 1) + 1:
        return
    layer = nn.Conv2d(1, 1, kernel, stride, padding, dilation, device="meta")
    maps = layer(torch.empty(1, 1, side, side, device="meta"))
    assert window.output_size(side) == maps.shape[2]
