"""AlexNet.

Krizhevsky et al., ImageNet classification with deep convolutional neural networks, 2012.
torchvision's, which is that of Krizhevsky, One weird trick, 2014 (arXiv:1404.5997): one column, no
local response normalisation. Its first convolution, 11×11 with a stride of 4, needs 63 px; that of
the small stem is 5×5 without a stride, for images from 15 px on.
"""

from __future__ import annotations

from torch import nn

from pipeline.vision.models.blocks.arguments import number
from pipeline.vision.models.blocks.sides import Layer, convolution, pooling, side_after
from pipeline.vision.models.stem import is_small, replace_first


def alexnet(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    stem: str = "auto",
    dropout: float = 0.5,
) -> nn.Module:
    """Five convolutions and three dense layers.

    Args:
        channels: of the images.
        num_classes: how many logits.
        image_size: side of the images in pixels.
        stem: ``small``, ``imagenet``, or ``auto``: small below 64 px.
        dropout: share of the dense layers' inputs dropped in training.

    Raises:
        ConfigurationError: an argument is not allowed, or the images are too small.
    """
    share = number("dropout", dropout, low=0.0, high=1.0)
    is_small(stem, image_size)  # before the sizes are worked out: a wrong name has none

    def layers(size: int) -> list[Layer]:
        first = convolution(5, 1, 2) if is_small(stem, size) else convolution(11, 4, 2)
        same = [convolution(3, 1, 1)] * 3
        return [first, pooling(3, 2), convolution(5, 1, 2), pooling(3, 2), *same, pooling(3, 2)]

    side_after("alexnet", image_size, layers)

    from torchvision.models import AlexNet

    net: nn.Module = AlexNet(num_classes=num_classes, dropout=share)
    replace_first(net, channels, small=is_small(stem, image_size), kernel=5)
    return net
