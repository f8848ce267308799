"""MobileNetV2: Sandler et al., Inverted residuals and linear bottlenecks, 2018 (arXiv:1801.04381).

torchvision's. The small stem takes away two of its five strides, those of the first convolution and
of the first block that has one.
"""

from __future__ import annotations

from torch import nn

from pipeline.vision.models.blocks.arguments import number
from pipeline.vision.models.stem import is_small, replace_first


def mobilenet_v2(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    stem: str = "auto",
    width: float = 1.0,
    dropout: float = 0.2,
) -> nn.Module:
    """Depthwise separable convolutions in 17 residual blocks.

    Args:
        channels: of the images.
        num_classes: how many logits.
        image_size: side of the images in pixels.
        stem: ``small``, ``imagenet``, or ``auto``: small below 64 px.
        width: factor of all layers' channels.
        dropout: share of the pooled features dropped in training.

    Raises:
        ConfigurationError: an argument is not allowed.
    """
    small = is_small(stem, image_size)
    share = number("dropout", dropout, low=0.0, high=1.0)
    factor = number("width", width, low=0.05, high=10.0)

    from torchvision.models import MobileNetV2

    net: nn.Module = MobileNetV2(num_classes=num_classes, width_mult=factor, dropout=share)
    replace_first(net, channels, small=small)
    if small:
        strided = next(m for m in net.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2))
        strided.stride = (1, 1)
    return net
