"""Inception v3, with its auxiliary head in training.

Szegedy et al., Rethinking the inception architecture for computer vision, 2015 (arXiv:1512.00567).
torchvision's, made for 299 px. The small stem leaves out the stride of the first convolution and
the first pooling, for images from 21 px on. The auxiliary head pools 17×17 maps to 5×5; smaller
maps are brought to 5×5 by averages that cover them. The head's loss counts 0.4, as in torchvision's
training; the paper gives no number.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from pipeline.vision.models.blocks.arguments import number
from pipeline.vision.models.blocks.sides import Layer, convolution, pooling, side_after
from pipeline.vision.models.stem import is_small, replace_first

AUXILIARY_WEIGHT = 0.4
AUXILIARY_SIDE = 17
"""Of the maps that the auxiliary head was made for."""
_SMALL_BELOW = 128


def inception_v3(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    stem: str = "auto",
    dropout: float = 0.5,
    auxiliary_weight: float = AUXILIARY_WEIGHT,
) -> nn.Module:
    """Eleven inception modules of five kinds.

    Args:
        channels: of the images.
        num_classes: how many logits.
        image_size: side of the images in pixels.
        stem: ``small``, ``imagenet``, or ``auto``: small below 128 px.
        dropout: share of the pooled features dropped in training.
        auxiliary_weight: of the auxiliary head's loss; 0 leaves the head out.

    Raises:
        ConfigurationError: an argument is not allowed, or the images are too small.
    """
    small = is_small(stem, image_size, below=_SMALL_BELOW)
    share = number("dropout", dropout, low=0.0, high=1.0)
    weight = number("auxiliary_weight", auxiliary_weight, low=0.0, high=10.0)
    side_after("inception_v3", image_size, lambda size: _layers(stem, size))

    from torchvision.models import Inception3

    net: nn.Module = Inception3(
        num_classes=num_classes, aux_logits=weight > 0, init_weights=True, dropout=share
    )
    replace_first(net, channels, small=small, padding=0)
    if small:
        net.maxpool1 = nn.Identity()
    if weight:
        net.AuxLogits = AuxiliaryHead(net.get_submodule("AuxLogits"))
        net.auxiliary_weight = weight  # type: ignore[assignment]  # a number, no module
        net.heads = ("fc", "AuxLogits.fc")  # type: ignore[assignment]
    return net


def _layers(stem: str, size: int) -> list[Layer]:
    """What changes the side: the stem, and the two modules that reduce it."""
    small = is_small(stem, size, below=_SMALL_BELOW)
    first = convolution(3, 1 if small else 2)
    pooled = [] if small else [pooling(3, 2)]
    halving = convolution(3, 2)
    return [
        *(first, convolution(3), *pooled, convolution(3), pooling(3, 2)),
        *(halving, halving),
    ]


class AuxiliaryHead(nn.Module):
    """torchvision's ``InceptionAux`` for maps of any size; the same from 17×17 on."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.conv0 = head.get_submodule("conv0")
        self.conv1 = head.get_submodule("conv1")
        self.fc = head.get_submodule("fc")

    def forward(self, maps: Tensor) -> Tensor:
        if min(maps.shape[2:]) >= AUXILIARY_SIDE:
            maps = functional.avg_pool2d(maps, 5, 3)
        else:
            maps = functional.adaptive_avg_pool2d(maps, 5)
        maps = self.conv1(self.conv0(maps))
        logits: Tensor = self.fc(functional.adaptive_avg_pool2d(maps, 1).flatten(1))
        return logits
