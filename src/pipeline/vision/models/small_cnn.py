"""A compact residual network for grey or RGB images of about 28 to 256 pixels.

Built for speed on a CPU: unless other blocks are asked for it has dense 3×3 convolutions alone,
gives up resolution early, and is made of what is fast in channels-last memory. The parts and where
they come from:

- residual blocks: He et al., Deep Residual Learning for Image Recognition, 2015
  (arXiv:1512.03385); the last normalisation of a block starts at zero, so that each block starts
  as the identity: Goyal et al., Accurate, Large Minibatch SGD, 2017 (arXiv:1706.02677).
- initial weights: He et al., Delving Deep into Rectifiers, 2015 (arXiv:1502.01852).
- batch normalisation: Ioffe and Szegedy, 2015 (arXiv:1502.03167).
- strides in place of pooling, unless ``pooling`` names one: Springenberg et al., Striving for
  Simplicity, 2014 (arXiv:1412.6806).
- global pooling in place of dense layers: Lin et al., Network in Network, 2013 (arXiv:1312.4400).
"""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.errors import ConfigurationError
from pipeline.vision.models.blocks.arguments import number, whole
from pipeline.vision.models.blocks.kit import Kit
from pipeline.vision.models.blocks.normalisation import NORMALISATIONS
from pipeline.vision.models.blocks.pooling import STRIDED


def small_cnn(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    width: int = 32,
    dropout: float = 0.0,
    convolution: str = "plain",
    activation: str = "relu",
    normalisation: str = "batch",
    pooling: str = STRIDED,
    initialisation: str = "he_fan_out",
) -> nn.Module:
    """Build a `SmallCNN`.

    Args:
        channels: of the images.
        num_classes: how many logits.
        image_size: side of the images in pixels, at least 16; from 64 on the first convolution
            has a stride, from 192 on a second one with a stride comes after it.
        width: channels of the first stage; parameters and work grow with its square.
        dropout: share of the pooled features dropped in training.
        convolution: a key of `CONVOLUTIONS`.
        activation: a key of `ACTIVATIONS`.
        normalisation: a key of `NORMALISATIONS`.
        pooling: a key of `POOLINGS`, or ``none``: strides.
        initialisation: a key of `INITIALISATIONS`.

    Raises:
        ConfigurationError: an argument is out of its range.
    """
    if image_size < 16:
        raise ConfigurationError(f"small_cnn needs images of at least 16 px, not {image_size}")
    whole("width", width, low=4, high=512)
    share = number("dropout", dropout, low=0.0, high=1.0)
    kit = Kit(convolution, activation, normalisation, pooling, initialisation=initialisation)
    net = SmallCNN(kit, channels, num_classes, width, share, _halvings(image_size))
    kit.initialise(net)
    for block in net.modules():
        if isinstance(block, Residual):
            block.begin_as_identity()
    return net


def _halvings(image_size: int) -> int:
    """How often the stem halves the side: stages of 192 px see as many places as those of 96."""
    return (image_size >= 64) + (image_size >= 192)


class SmallCNN(nn.Module):
    """Stem, three stages that each halve the side, average over what is left of it, logits."""

    def __init__(
        self,
        kit: Kit,
        channels: int,
        num_classes: int,
        width: int,
        dropout: float,
        halvings: int,
    ) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        stem: list[nn.Module] = []
        before = channels
        if halvings == 2:
            before = width // 2
            stem += kit.stage(channels, before, 3, padding=1, pool=2)
        stem += kit.stage(before, width, 3, padding=1, pool=2 if halvings else 1)
        self.stem = nn.Sequential(*stem)
        stages: list[nn.Module] = []
        for before, after in zip((width, *widths), widths, strict=False):
            halved = kit.stage(before, after, 3, padding=1, pool=2)
            stages += [nn.Sequential(*halved), Residual(kit, after)]
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stages(self.stem(images))  # (N, 4 * width, h, w)
        return self.head(self.dropout(features.mean(dim=(2, 3))))


class Residual(nn.Module):
    """Two layers, whose result is added to what they were given, and the activation of the sum."""

    def __init__(self, kit: Kit, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*kit.stage(width, width, 3, padding=1))
        self.second = kit.convolve(width, width, 3, padding=1)
        self.norm = NORMALISATIONS[kit.normalisation](width, maps=True)
        self.activation = kit.activate()

    def forward(self, features: Tensor) -> Tensor:
        change = self.norm(self.second(self.first(features)))
        return self.activation(features + change)

    def begin_as_identity(self) -> None:
        """Add nothing at first, where the last normalisation has a scale."""
        scale = dict(self.norm.named_parameters()).get("weight")
        if scale is not None:
            nn.init.zeros_(scale)
