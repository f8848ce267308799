"""Convolutional autoencoders: a classifier's network without its head, and a decoder behind it.

Masci et al., Stacked convolutional auto-encoders for hierarchical feature extraction, 2011. With
masking they are denoising ones: Vincent et al., Extracting and composing robust features with
denoising autoencoders, 2008.

The decoder, of transposed convolutions, is the same for every network: it is thrown away.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigurationError
from pipeline.vision.models.blocks.convolution import transposed
from pipeline.vision.models.classifier import Classifier
from pipeline.vision.models.layers import head_layers

LARGEST_START = 7
"""Pixels: the side of the maps that the decoder begins with is at most this."""
WIDTH, WIDEST = 16, 64
"""Maps of the decoder at the images' own side, and most: they double where the side halves."""


def autoencoder(
    classifier: Classifier, *, image_size: int, masking: float, where: str
) -> Classifier:
    """Make an autoencoder of ``classifier``, whose network becomes its encoder.

    Args:
        classifier: of any network with a dense head, for images of ``image_size``; it is used up.
        image_size: side of the images in pixels.
        masking: share of the pixels hidden from the encoder in training, all channels of them.
        where: the variant's section of ``params.yaml``, for messages.

    Returns:
        What maps float32 (B, C, H, W) in [0, 1] to drawings of the same shape and range, by way of
        an `Autoencoder`.

    Raises:
        ConfigurationError: the network's head is no single dense layer.
    """
    encoder = classifier.net
    heads = sorted(head_layers(encoder))
    head = encoder.get_submodule(heads[0]) if len(heads) == 1 else None
    if not isinstance(head, nn.Linear):
        raise _unsuitable(where, f"its logits come from {' and '.join(heads) or 'no matrix'}")
    encoder.set_submodule(heads[0], nn.Identity())
    decoder = Decoder(head.in_features, classifier.channels, image_size)
    classifier.net = Autoencoder(encoder, decoder, masking=masking)
    shape = (1, classifier.channels, image_size, image_size)
    classifier.eval()
    try:
        with torch.no_grad():
            classifier(torch.zeros(shape, device=head.weight.device))
    except Exception as error:  # of layers that stand behind the one that is gone
        raise _unsuitable(where, f"without '{heads[0]}' it gives no features") from error
    finally:
        classifier.train()
    return classifier


def _unsuitable(where: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"params.yaml: {where}.pretraining.autoencoder: needs a network that ends with one dense"
        f" layer, and of this one {reason}; choose another model, or pretraining: null"
    )


class Autoencoder(nn.Module):
    """From normalised images (B, C, H, W) to drawings of them in [0, 1], by way of a code (B, D).

    Attributes:
        encoder: its parameters have the names that they have in the classifier's network.
    """

    def __init__(self, encoder: nn.Module, decoder: Decoder, *, masking: float) -> None:
        super().__init__()
        self.encoder, self.decoder, self.masking = encoder, decoder, masking

    def forward(self, images: Tensor) -> Tensor:
        if self.training and self.masking:
            # 0 is the mean of all images, since they are normalised.
            images = images * (torch.rand_like(images[:, :1]) >= self.masking)
        drawings: Tensor = self.decoder(self.encoder(images))
        return drawings

    def errors(self, drawings: Tensor, pixels: Tensor) -> Tensor:
        """(B,) float32: the mean squared error of each drawing; ``pixels`` were not masked."""
        return (drawings.float() - pixels).square().mean(dim=(1, 2, 3))

    def training_loss(self, drawings: Tensor, pixels: Tensor) -> Tensor:
        """The mean of `errors`, scalar."""
        return self.errors(drawings, pixels).mean()


class Decoder(nn.Module):
    """From codes (B, D) to images (B, C, H, W) in [0, 1].

    Maps of at most `LARGEST_START` px are made larger by transposed convolutions. Sides double, and
    a row and a column are cut off where the image's is odd.
    """

    def __init__(self, code: int, channels: int, image_size: int) -> None:
        super().__init__()
        self.sides = [image_size]
        while self.sides[0] > LARGEST_START or len(self.sides) == 1:
            self.sides.insert(0, -(-self.sides[0] // 2))
        widths = [min(WIDTH * 2**i, WIDEST) for i in reversed(range(len(self.sides)))]
        self.start = (widths[0], self.sides[0], self.sides[0])
        self.dense = nn.Linear(code, torch.Size(self.start).numel())
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(before),
                nn.ReLU(inplace=True),
                transposed(before, after, bias=False),
            )
            for before, after in itertools.pairwise(widths)
        )
        self.last = nn.Sequential(
            nn.BatchNorm2d(widths[-1]),
            nn.ReLU(inplace=True),
            nn.Conv2d(widths[-1], channels, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, codes: Tensor) -> Tensor:
        maps = self.dense(codes).view(-1, *self.start)
        for stage, side in zip(self.stages, self.sides[1:], strict=True):
            maps = stage(maps)[:, :, :side, :side]
        images: Tensor = self.last(maps)
        return images
