"""Pooling: what a window of a feature map becomes. All but the pyramid halve (or so) the side."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional


class L2Pool(nn.Module):
    """The root of the window's sum of squares.

    Sermanet et al., Convolutional neural networks applied to house numbers digit classification,
    2012 (arXiv:1204.3968); Nielsen, Neural Networks and Deep Learning, chapter 6.
    """

    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride

    def forward(self, maps: Tensor) -> Tensor:
        squares = functional.avg_pool2d(maps.float().square(), self.size, self.stride)
        # The root has no slope at 0; so far above it nothing is seen of the small number.
        return (squares * self.size**2 + 1e-12).sqrt().to(maps.dtype)


class MixedPool(nn.Module):
    """A learned mixture of maximum and average, the same for all channels; it begins half and half.

    Lee, Gallagher and Tu, Generalizing pooling functions in convolutional neural networks: mixed,
    gated, and tree, 2016 (arXiv:1509.08985). The share is the sigmoid of what is learned, so it
    stays between both.
    """

    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride
        self.mixture = nn.Parameter(torch.zeros(1))

    def forward(self, maps: Tensor) -> Tensor:
        highest = functional.max_pool2d(maps, self.size, self.stride)
        average = functional.avg_pool2d(maps, self.size, self.stride)
        return torch.lerp(average, highest, self.mixture.sigmoid().to(maps.dtype))


class StochasticPool(nn.Module):
    """One value of the window, drawn with a probability in proportion to it; in use their mean.

    Zeiler and Fergus, Stochastic pooling for regularization of deep convolutional neural networks,
    2013 (arXiv:1301.3557). Values must not be negative. It draws from torch's global generator, as
    dropout does, which the training seeds for each epoch: a resumed one repeats it.
    """

    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride

    def forward(self, maps: Tensor) -> Tensor:
        values = list(self._by_place(maps))  # size² of (N, C, h, w)
        weights = [value.detach().float().clamp(min=0.0) for value in values]
        *sums, total = itertools.accumulate(weights)
        if not self.training:
            # Where all are 0 so is the mean, whatever the weights.
            shares = [weight / total.clamp(min=1e-30) for weight in weights]
            return sum(map(torch.mul, values, shares), torch.zeros_like(total)).to(maps.dtype)
        drawn = torch.rand_like(total) * total
        *others, chosen = values
        # Not by `gather`, whose gradient has no order on a GPU.
        for value, up_to in zip(reversed(others), reversed(sums), strict=True):
            chosen = torch.where(drawn < up_to, value, chosen)
        return chosen

    def _by_place(self, maps: Tensor) -> Iterator[Tensor]:
        """The values at each place of the windows, place by place: what is fast to compute with."""
        height, width = ((side - self.size) // self.stride * self.stride for side in maps.shape[2:])
        for row, column in itertools.product(range(self.size), repeat=2):
            yield maps[
                ...,
                row : row + height + 1 : self.stride,
                column : column + width + 1 : self.stride,
            ]


class SubsamplingPool(nn.Module):
    """The average, times a learned coefficient, plus a learned bias, for each channel.

    The subsampling of LeNet-5 (LeCun et al. 1998). Its coefficient multiplied the window's sum; of
    the average it begins as 1.
    """

    def __init__(self, size: int, stride: int, channels: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride
        self.coefficient = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        average = functional.avg_pool2d(maps, self.size, self.stride)
        return average * self.coefficient.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


class SpatialPyramidPool(nn.Module):
    """The maxima of the whole map, its quarters and its sixteenths: (N, C, H, W) -> (N, 21 C).

    Whatever the size of the image, there are as many. He et al., Spatial pyramid pooling in deep
    convolutional networks for visual recognition, 2014 (arXiv:1406.4729).
    """

    def __init__(self, levels: tuple[int, ...] = (1, 2, 4)) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat(
            [functional.adaptive_max_pool2d(maps, level).flatten(1) for level in self.levels], dim=1
        )


POOLINGS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "max": lambda size, stride, _: nn.MaxPool2d(size, stride),
    "average": lambda size, stride, _: nn.AvgPool2d(size, stride),
    "l2": lambda size, stride, _: L2Pool(size, stride),
    "mixed": lambda size, stride, _: MixedPool(size, stride),
    "stochastic": lambda size, stride, _: StochasticPool(size, stride),
    "subsampling": SubsamplingPool,
}
"""name -> f(size, stride, channels)."""

STRIDED = "none"
"""No pooling: the convolution before has the stride (Springenberg et al. 2014, arXiv:1412.6806)."""

LAST_POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "flatten": nn.Flatten,
    "average": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "spatial_pyramid": SpatialPyramidPool,
}
"""name -> what makes of the last feature maps (N, C, H, W) the features (N, D) of dense layers."""
