"""LeNet-1, LeNet-4 and LeNet-5.

LeCun et al., Gradient-based learning applied to document recognition, 1998; LeNet-1 and LeNet-4
also in LeCun et al., Learning algorithms for classification, 1995.

By default they are what is called so today: every map of a convolution sees all maps before it, and
averages over 2×2 pixels have nothing to learn (LeNet-5: 61,706 parameters for ten classes). Three
options make LeNet-5 the published one, of 60,000 parameters:

- ``pooling: subsampling``: averages with a learned coefficient and bias for each map;
- ``connections: published``: the second convolution by table I of the paper;
- ``output: rbf``: logits are distances, see `RadialBasis`.

The tables of LeNet-1 and LeNet-4 are not in these papers, so ours see all maps: LeNet-1 has 3,246
parameters in place of 2,600, LeNet-4 51,050 in place of 17,000. Activations are the scaled tanh of
the paper; it squashes the pooled maps there, ours what is pooled, as all networks today. Weights
and biases begin uniform within 2.4 / fan-in. Images below 32 px get a border of 2 px on each side,
as MNIST's 28 px did. The loss is the cross-entropy, not the paper's mean squared error or its
margin with a rejecting class.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import ConfigurationError
from pipeline.vision.models.blocks.arguments import choice, number
from pipeline.vision.models.blocks.kit import Kit
from pipeline.vision.models.blocks.sides import Layer, side_after

KERNEL = 5
TABLE_I = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
"""The maps of S2 that each of the 16 maps of C3 sees."""
CODE_LENGTH = 84


class ConnectedConvolution(nn.Module):
    """A convolution whose maps each see only some of the maps before; it has no other weights."""

    positions: Tensor

    def __init__(self, before: int, seen: Sequence[Sequence[int]], kernel: int) -> None:
        super().__init__()
        self.shape = (len(seen), before, kernel, kernel)
        places = [after * before + each for after, maps in enumerate(seen) for each in maps]
        self.register_buffer("positions", torch.tensor(places), persistent=False)
        self.weight = nn.Parameter(torch.empty(len(places), kernel, kernel))
        self.bias = nn.Parameter(torch.empty(len(seen)))
        with torch.no_grad():
            start = 0
            for after, maps in enumerate(seen):
                bound = 2.4 / (len(maps) * kernel**2)
                self.weight[start : start + len(maps)].uniform_(-bound, bound)
                self.bias[after].uniform_(-bound, bound)
                start += len(maps)

    def forward(self, maps: Tensor) -> Tensor:
        after, before, kernel, _ = self.shape
        whole = self.weight.new_zeros(after * before, kernel, kernel)
        whole = whole.index_copy(0, self.positions, self.weight)
        return functional.conv2d(maps, whole.view(self.shape), self.bias)


class RadialBasis(nn.Module):
    """Logits from the distance of features x (N, 84) to a fixed code w of -1 and 1 for each class.

    The logit is -½ |x - w|², the logarithm of a Gaussian's density, but for ½ (x² + w²), which is
    the same for all classes and so changes no probability: what remains is x · w.

    The paper drew its codes as pictures of the ten digits, and says of other classes that codes may
    be chosen at random. Ours are, as classes here may be anything.
    """

    codes: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        signs = torch.randint(0, 2, (num_classes, CODE_LENGTH))
        self.register_buffer("codes", signs.float() * 2.0 - 1.0)

    def forward(self, features: Tensor) -> Tensor:
        return functional.linear(features.float(), self.codes)


def lenet1(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    dropout: float = 0.0,
    convolution: str = "plain",
    activation: str = "scaled_tanh",
    normalisation: str = "none",
    pooling: str = "average",
    initialisation: str = "lecun",
) -> nn.Module:
    """LeNet-1: 4 and 12 maps, then the logits. For the arguments see `lenet5`."""
    kit = Kit(convolution, activation, normalisation, pooling, initialisation=initialisation)
    share = number("dropout", dropout, low=0.0, high=1.0)
    side = side_after("lenet1", image_size, kit.stage_sides(KERNEL, pool=2) * 2)
    net = nn.Sequential(
        *kit.stage(channels, 4, KERNEL, pool=2),
        *kit.stage(4, 12, KERNEL, pool=2),
        nn.Flatten(),
        nn.Dropout(share),
        nn.Linear(12 * side**2, num_classes),
    )
    kit.initialise(net)
    return net


def lenet4(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    dropout: float = 0.0,
    convolution: str = "plain",
    activation: str = "scaled_tanh",
    normalisation: str = "none",
    pooling: str = "average",
    initialisation: str = "lecun",
) -> nn.Module:
    """LeNet-4: 4 and 16 maps, 120 units, then the logits. For the arguments see `lenet5`."""
    kit = Kit(convolution, activation, normalisation, pooling, initialisation=initialisation)
    share = number("dropout", dropout, low=0.0, high=1.0)
    side = _side("lenet4", image_size, kit)
    net = nn.Sequential(
        *kit.stage(channels, 4, KERNEL, padding=_border(image_size), pool=2),
        *kit.stage(4, 16, KERNEL, pool=2),
        nn.Flatten(),
        *kit.dense(16 * side**2, 120),
        nn.Dropout(share),
        nn.Linear(120, num_classes),
    )
    kit.initialise(net)
    return net


def lenet5(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    dropout: float = 0.0,
    convolution: str = "plain",
    activation: str = "scaled_tanh",
    normalisation: str = "none",
    pooling: str = "average",
    initialisation: str = "lecun",
    connections: str = "full",
    output: str = "linear",
) -> nn.Module:
    """LeNet-5: 6 and 16 maps, 120 and 84 units, then the logits.

    Args:
        channels: of the images.
        num_classes: how many logits.
        image_size: side of the images in pixels.
        dropout: share of the last hidden units dropped in training.
        convolution: a key of `CONVOLUTIONS`.
        activation: a key of `ACTIVATIONS`.
        normalisation: a key of `NORMALISATIONS`.
        pooling: a key of `POOLINGS`, or ``none``.
        initialisation: a key of `INITIALISATIONS`.
        connections: of the second convolution: ``full``, or ``published`` for table I.
        output: ``linear`` or ``rbf``.

    Raises:
        ConfigurationError: an argument is not allowed, or the images are too small.
    """
    kit = Kit(convolution, activation, normalisation, pooling, initialisation=initialisation)
    share = number("dropout", dropout, low=0.0, high=1.0)
    choice("connections", connections, ("full", "published"))
    choice("output", output, ("linear", "rbf"))
    side = _side("lenet5", image_size, kit)
    second = kit.stage(6, 16, KERNEL, pool=2)
    if connections == "published":
        if (convolution, normalisation) != ("plain", "none") or pooling == "none":
            raise ConfigurationError(
                "architecture.connections: published is a table for a plain convolution; leave"
                " convolution, normalisation and pooling: none out of it, or set connections: full"
            )
        second[0] = ConnectedConvolution(6, TABLE_I, KERNEL)
    net = nn.Sequential(
        *kit.stage(channels, 6, KERNEL, padding=_border(image_size), pool=2),
        *second,
        nn.Flatten(),
        *kit.dense(16 * side**2, 120),
        *kit.dense(120, CODE_LENGTH),
        nn.Dropout(share),
        nn.Linear(CODE_LENGTH, num_classes) if output == "linear" else RadialBasis(num_classes),
    )
    kit.initialise(net)
    return net


def _border(image_size: int) -> int:
    return 2 if image_size < 32 else 0


def _side(model: str, image_size: int, kit: Kit) -> int:
    def layers(size: int) -> list[Layer]:
        first = kit.stage_sides(KERNEL, padding=_border(size), pool=2)
        return [*first, *kit.stage_sides(KERNEL, pool=2)]

    return side_after(model, image_size, layers)
