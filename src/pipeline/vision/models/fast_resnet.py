"""A small, fast residual network for images of about 28 to 64 px.

In the spirit of the records for CIFAR-10: few, wide layers, all of them what hardware does best.
Its parts and where they come from:

- nine layers, three stages with a residual block in the first and the last, maxima over what is
  left of the image, and logits scaled by 1/8: Page, How to train your ResNet, 2018 to 2019
  (myrtle.ai), the record of DAWNBench (Coleman et al., 2017);
- residual blocks: He et al., 2015 (arXiv:1512.03385);
- batch normalisation: Ioffe and Szegedy, 2015 (arXiv:1502.03167);
- GELU (Hendrycks and Gimpel, 2016, arXiv:1606.08415), as in Jordan, 94 % on CIFAR-10 in 3.29
  seconds on a single GPU, 2024 (arXiv:2404.00498), which has whitened patches and more besides.
"""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.vision.models.blocks.arguments import number, whole
from pipeline.vision.models.blocks.kit import Kit
from pipeline.vision.models.blocks.sides import side_after

LOGIT_SCALE = 0.125


def fast_resnet(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    width: int = 32,
    dropout: float = 0.0,
    convolution: str = "plain",
    activation: str = "gelu",
    normalisation: str = "batch",
    pooling: str = "max",
    initialisation: str = "he",
) -> nn.Module:
    """Build a `FastResNet`.

    Args:
        channels: of the images.
        num_classes: how many logits.
        image_size: side of the images in pixels.
        width: channels of the first layer; Page's network has 64. Parameters grow with its square.
        dropout: share of the pooled features dropped in training.
        convolution: a key of `CONVOLUTIONS`.
        activation: a key of `ACTIVATIONS`.
        normalisation: a key of `NORMALISATIONS`.
        pooling: a key of `POOLINGS`, or ``none``.
        initialisation: a key of `INITIALISATIONS`.

    Raises:
        ConfigurationError: an argument is out of its range, or the images are too small.
    """
    whole("width", width, low=4, high=512)
    share = number("dropout", dropout, low=0.0, high=1.0)
    kit = Kit(convolution, activation, normalisation, pooling, initialisation=initialisation)
    side_after("fast_resnet", image_size, kit.stage_sides(3, padding=1, pool=2) * 3)
    net = FastResNet(kit, channels, num_classes, width, share)
    kit.initialise(net)
    return net


class FastResNet(nn.Module):
    """A layer, three stages that each halve the side, the maxima of what is left of it, logits."""

    def __init__(
        self, kit: Kit, channels: int, num_classes: int, width: int, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *kit.stage(channels, width, 3, padding=1),
            *kit.stage(width, 2 * width, 3, padding=1, pool=2),
            Residual(kit, 2 * width),
            *kit.stage(2 * width, 4 * width, 3, padding=1, pool=2),
            *kit.stage(4 * width, 8 * width, 3, padding=1, pool=2),
            Residual(kit, 8 * width),
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8 * width, num_classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layers(images)  # (N, 8 * width, h, w)
        features = maps.amax(dim=(2, 3))
        return self.head(self.dropout(features)) * LOGIT_SCALE


class Residual(nn.Module):
    """Two layers, whose result is added to what they were given."""

    def __init__(self, kit: Kit, width: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            *kit.stage(width, width, 3, padding=1), *kit.stage(width, width, 3, padding=1)
        )

    def forward(self, maps: Tensor) -> Tensor:
        change: Tensor = self.change(maps)
        return maps + change
