"""A compact residual network for grey or RGB images of about 28 to 128 pixels.

Built for speed on a CPU: dense 3×3 convolutions only, resolution given up early, all of it made of
what is fast in channels-last memory. The parts and where they come from:

- residual blocks: He et al., Deep Residual Learning for Image Recognition, 2015
  (arXiv:1512.03385); the last normalisation of a block starts at zero, so that each block starts
  as the identity: Goyal et al., Accurate, Large Minibatch SGD, 2017 (arXiv:1706.02677).
- initial weights: He et al., Delving Deep into Rectifiers, 2015 (arXiv:1502.01852).
- batch normalisation: Ioffe and Szegedy, 2015 (arXiv:1502.03167).
- strides in place of pooling: Springenberg et al., Striving for Simplicity, 2014
  (arXiv:1412.6806).
- global pooling in place of dense layers: Lin et al., Network in Network, 2013 (arXiv:1312.4400).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigurationError


def small_cnn(
    *, channels: int, num_classes: int, image_size: int, width: int = 32, dropout: float = 0.0
) -> SmallCNN:
    """Build a `SmallCNN`.

    Args:
        channels: of the images.
        num_classes: how many logits.
        image_size: side of the images in pixels, at least 16; from 64 on the first convolution
            has a stride.
        width: channels of the first stage; parameters and work grow with its square.
        dropout: share of the pooled features dropped in training.

    Raises:
        ConfigurationError: an argument is out of its range.
    """
    if image_size < 16:
        raise ConfigurationError(f"small_cnn needs images of at least 16 px, not {image_size}")
    if not (isinstance(width, int) and 4 <= width <= 512):
        raise ConfigurationError(f"small_cnn: width is {width!r}, expected a number from 4 to 512")
    if not 0.0 <= dropout < 1.0:
        raise ConfigurationError(f"small_cnn: dropout is {dropout!r}, expected 0 to below 1")
    return SmallCNN(channels, num_classes, width, dropout, stem_stride=2 if image_size >= 64 else 1)


class SmallCNN(nn.Module):
    """Stem, three stages that each halve the side, average over what is left of it, logits."""

    def __init__(
        self, channels: int, num_classes: int, width: int, dropout: float, stem_stride: int
    ) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.stem = ConvNormAct(channels, width, stride=stem_stride)
        stages: list[nn.Module] = []
        for before, after in zip((width, *widths), widths, strict=False):
            stages += [ConvNormAct(before, after, stride=2), Residual(after)]
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        features = self.stages(self.stem(images))  # (N, 4 * width, h, w)
        return self.head(self.dropout(features.mean(dim=(2, 3))))


class ConvNormAct(nn.Sequential):
    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNormAct(width, width, stride=1)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm.weight)

    def forward(self, features: Tensor) -> Tensor:
        change = self.norm(self.second(self.first(features)))
        return torch.relu(features + change)
