"""GoogLeNet, with its two auxiliary heads in training.

Szegedy et al., Going deeper with convolutions, 2014 (arXiv:1409.4842). torchvision's, normalised
(Ioffe and Szegedy, 2015), with two differences: the largest convolutions of a module are the
paper's 5×5, where torchvision has 3×3, and the small stem has one of 3×3 and neither stride nor the
first pooling. The heads' losses count 0.3 each.
"""

from __future__ import annotations

from torch import nn

from pipeline.vision.models.blocks.arguments import number
from pipeline.vision.models.stem import is_small, replace_first

AUXILIARY_WEIGHT = 0.3


def googlenet(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    stem: str = "auto",
    dropout: float = 0.2,
    auxiliary_weight: float = AUXILIARY_WEIGHT,
) -> nn.Module:
    """Nine inception modules.

    Args:
        channels: of the images.
        num_classes: how many logits.
        image_size: side of the images in pixels.
        stem: ``small``, ``imagenet``, or ``auto``: small below 64 px.
        dropout: share of the pooled features dropped in training.
        auxiliary_weight: of each auxiliary head's loss; 0 leaves the heads out.

    Raises:
        ConfigurationError: an argument is not allowed.
    """
    small = is_small(stem, image_size)
    share = number("dropout", dropout, low=0.0, high=1.0)
    weight = number("auxiliary_weight", auxiliary_weight, low=0.0, high=10.0)

    from torchvision.models import GoogLeNet
    from torchvision.models.googlenet import Inception

    net: nn.Module = GoogLeNet(
        num_classes=num_classes, aux_logits=weight > 0, init_weights=True, dropout=share
    )
    for module in net.modules():
        if isinstance(module, Inception):
            module.branch3[1].conv = _five_by_five(module.branch3[1].conv)
    replace_first(net, channels, small=small)
    if small:
        net.maxpool1 = nn.Identity()
    if weight:
        net.auxiliary_weight = weight  # type: ignore[assignment]  # a number, no module
        net.heads = ("fc", "aux1.fc2", "aux2.fc2")  # type: ignore[assignment]
    return net


def _five_by_five(old: nn.Conv2d) -> nn.Conv2d:
    new = nn.Conv2d(old.in_channels, old.out_channels, 5, padding=2, bias=False)
    nn.init.trunc_normal_(new.weight, std=0.01)
    return new
