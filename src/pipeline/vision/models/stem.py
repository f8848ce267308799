"""The first layers of a library's network, made anew for the channels and the size of the images.

Networks for ImageNet give up three quarters of the resolution or more before their first block. Of
small images that leaves little, so their stem is a 3×3 convolution without a stride and without
pooling: He et al., 2015 (arXiv:1512.03385), section 4.2, for CIFAR-10.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from pipeline.vision.models.blocks.arguments import choice
from pipeline.vision.models.layers import first_layer

SMALL, IMAGENET = "small", "imagenet"
SMALL_UP_TO = 64
"""Pixels from which on ``auto`` is usually the stem for ImageNet."""


def is_small(stem: object, image_size: int, *, below: int = SMALL_UP_TO) -> bool:
    """Whether the argument ``stem`` (auto, small, imagenet) means the small one.

    Args:
        below: the size of images from which on ``auto`` is the stem for ImageNet.

    Raises:
        ConfigurationError: it is something else.
    """
    chosen = choice("stem", stem, ("auto", SMALL, IMAGENET))
    return chosen == SMALL or (chosen == "auto" and image_size < below)


def replace_first(
    net: nn.Module, channels: int, *, small: bool, kernel: int = 3, padding: int | None = None
) -> None:
    """Give ``net`` another first convolution: for ``channels``, and small or as large as it was.

    Args:
        net: of a library, for three channels; it changes in place.
        channels: of the images.
        small: with a kernel of ``kernel`` and without a stride.
        kernel: odd.
        padding: of the small one; by default the side stays as it is.
    """
    name = str(first_layer(net))
    old: Any = net.get_submodule(name)
    if channels == old.in_channels and not small:
        return
    if padding is None:
        padding = kernel // 2
    new = nn.Conv2d(
        channels,
        old.out_channels,
        kernel if small else old.kernel_size,
        stride=1 if small else old.stride,
        padding=padding if small else old.padding,
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    parent, _, attribute = name.rpartition(".")
    setattr(net.get_submodule(parent), attribute, new)
