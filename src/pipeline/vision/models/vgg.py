"""VGG-11, VGG-16 and VGG-19, with or without batch normalisation.

Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, 2014
(arXiv:1409.1556). The layers are torchvision's. ``head: published`` is the paper's, two layers of
4,096 units behind 7×7 pixels, nine tenths of all parameters; ``small`` is the mean over what is
left of the image, then the logits. A pooling layer that would halve a single pixel is left out.
"""

from __future__ import annotations

from torch import nn

from pipeline.vision.models.blocks.arguments import choice, number, switch
from pipeline.vision.models.stem import replace_first

POOL = "M"


def vgg11(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    batch_norm: bool = True,
    dropout: float = 0.5,
    head: str = "small",
) -> nn.Module:
    """Configuration A: eight convolutions.

    Args:
        channels: of the images.
        num_classes: how many logits.
        image_size: side of the images in pixels.
        batch_norm: normalise behind each convolution, which the paper, being older, does not.
        dropout: share of the head's hidden units dropped in training.
        head: ``small`` or ``published``.

    Raises:
        ConfigurationError: an argument is not allowed.
    """
    return _build("A", channels, num_classes, image_size, batch_norm, dropout, head)


def vgg16(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    batch_norm: bool = True,
    dropout: float = 0.5,
    head: str = "small",
) -> nn.Module:
    """Configuration D: 13 convolutions. For the arguments see `vgg11`."""
    return _build("D", channels, num_classes, image_size, batch_norm, dropout, head)


def vgg19(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    batch_norm: bool = True,
    dropout: float = 0.5,
    head: str = "small",
) -> nn.Module:
    """Configuration E: 16 convolutions. For the arguments see `vgg11`."""
    return _build("E", channels, num_classes, image_size, batch_norm, dropout, head)


def _build(
    configuration: str,
    channels: int,
    num_classes: int,
    image_size: int,
    batch_norm: bool,
    dropout: float,
    head: str,
) -> nn.Module:
    normalised = switch("batch_norm", batch_norm)
    share = number("dropout", dropout, low=0.0, high=1.0)
    choice("head", head, ("small", "published"))

    from torchvision.models.vgg import VGG, cfgs, make_layers

    layers = list[str | int]()
    side = image_size
    for layer in cfgs[configuration]:
        if layer == POOL:
            if side < 2:
                continue
            side //= 2
        layers.append(layer)
    net: nn.Module = VGG(
        make_layers(layers, batch_norm=normalised), num_classes=num_classes, dropout=share
    )
    replace_first(net, channels, small=False)
    if head == "small":
        net.avgpool = nn.AdaptiveAvgPool2d(1)
        net.classifier = nn.Sequential(nn.Dropout(share), nn.Linear(512, num_classes))
    return net
