"""ResNet-18, ResNet-34 and ResNet-50 for small images.

He et al., Deep residual learning for image recognition, 2015 (arXiv:1512.03385). torchvision's,
with the stem of section 4.2; ``stem: imagenet`` makes them ``torchvision:resnet18`` and so on. The
last normalisation of a block starts at zero: Goyal et al., 2017 (arXiv:1706.02677).
"""

from __future__ import annotations

from torch import nn

from pipeline.vision.models.blocks.arguments import choice
from pipeline.vision.models.stem import IMAGENET, SMALL, replace_first


def resnet18_small(
    *, channels: int, num_classes: int, image_size: int, stem: str = SMALL
) -> nn.Module:
    """Eight blocks of two 3×3 convolutions.

    Args:
        channels: of the images.
        num_classes: how many logits.
        image_size: side of the images in pixels.
        stem: ``small`` or ``imagenet``.

    Raises:
        ConfigurationError: an argument is not allowed.
    """
    del image_size
    return _build("BasicBlock", [2, 2, 2, 2], channels, num_classes, stem)


def resnet34_small(
    *, channels: int, num_classes: int, image_size: int, stem: str = SMALL
) -> nn.Module:
    """Sixteen blocks of two 3×3 convolutions. For the arguments see `resnet18_small`."""
    del image_size
    return _build("BasicBlock", [3, 4, 6, 3], channels, num_classes, stem)


def resnet50_small(
    *, channels: int, num_classes: int, image_size: int, stem: str = SMALL
) -> nn.Module:
    """Sixteen blocks of a 3×3 convolution between two of 1×1. For the arguments see
    `resnet18_small`."""
    del image_size
    return _build("Bottleneck", [3, 4, 6, 3], channels, num_classes, stem)


def _build(block: str, layers: list[int], channels: int, num_classes: int, stem: str) -> nn.Module:
    small = choice("stem", stem, (SMALL, IMAGENET)) == SMALL

    from torchvision.models import resnet

    net: nn.Module = resnet.ResNet(
        getattr(resnet, block), layers, num_classes=num_classes, zero_init_residual=True
    )
    replace_first(net, channels, small=small)
    if small:
        net.maxpool = nn.Identity()
    return net
