"""DenseNet-BC-100 and DenseNet-121.

Huang et al., Densely connected convolutional networks, 2016 (arXiv:1608.06993). torchvision's
blocks. The small stem is the paper's for CIFAR: a 3×3 convolution, nothing else.
"""

from __future__ import annotations

from torch import nn

from pipeline.vision.models.blocks.arguments import number
from pipeline.vision.models.blocks.sides import Layer, convolution, pooling, side_after
from pipeline.vision.models.stem import is_small, replace_first


def densenet_bc100(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    stem: str = "small",
    dropout: float = 0.0,
) -> nn.Module:
    """Three blocks of 16 layers that add 12 maps each: 769,162 parameters for CIFAR-10.

    Args:
        channels: of the images.
        num_classes: how many logits.
        image_size: side of the images in pixels.
        stem: ``small``, ``imagenet``, or ``auto``: small below 64 px.
        dropout: share of each layer's maps dropped in training.

    Raises:
        ConfigurationError: an argument is not allowed, or the images are too small.
    """
    return _build(12, (16, 16, 16), 24, channels, num_classes, image_size, stem, dropout)


def densenet121(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    stem: str = "auto",
    dropout: float = 0.0,
) -> nn.Module:
    """Four blocks of 6, 12, 24 and 16 layers that add 32 maps each. For the arguments see
    `densenet_bc100`."""
    return _build(32, (6, 12, 24, 16), 64, channels, num_classes, image_size, stem, dropout)


def _build(
    growth: int,
    blocks: tuple[int, ...],
    width: int,
    channels: int,
    num_classes: int,
    image_size: int,
    stem: str,
    dropout: float,
) -> nn.Module:
    small = is_small(stem, image_size)
    share = number("dropout", dropout, low=0.0, high=1.0)

    def layers(size: int) -> list[Layer]:
        """The stem, and between blocks an average over 2×2 pixels."""
        first = [] if is_small(stem, size) else [convolution(7, 2, 3), pooling(3, 2, 1)]
        return [*first, *[pooling(2)] * (len(blocks) - 1)]

    side_after("densenet", image_size, layers)

    from torchvision.models import DenseNet

    net: nn.Module = DenseNet(growth, blocks, width, drop_rate=share, num_classes=num_classes)
    replace_first(net, channels, small=small)
    if small:
        for layer in ("norm0", "relu0", "pool0"):
            setattr(net.get_submodule("features"), layer, nn.Identity())
    return net
