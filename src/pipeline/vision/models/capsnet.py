"""A capsule network with dynamic routing, which also learns to draw what it has recognised.

Sabour, Frosst and Hinton, Dynamic routing between capsules, 2017 (arXiv:1710.09829). 8,215,568
parameters for ten classes of 28 px. What the paper leaves open, and where ours is another:

- the loss is the paper's margin loss, plus the reconstruction's with a weight of 0.392 on the
  *mean* squared error of pixels, which is its 0.0005 on their sum at 28×28;
- a soft or mixed label counts in the margin loss with its share of each class, and what is drawn is
  drawn from all its classes' capsules by these shares. Label smoothing is one more such share;
- a logit is log(length / (1 - length)) of the class's capsule, so that lengths of 0.9 and 0.1 are
  odds of 9 and 1/9. The order is that of the lengths;
- images of 64 px or more lose half their side in the first convolution, as the number of capsules
  grows with their area. ``decoder: transposed`` draws by convolutions in place of dense layers,
  whose parameters do too.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigurationError
from pipeline.vision.models.blocks.arguments import choice, number, whole
from pipeline.vision.models.blocks.convolution import transposed
from pipeline.vision.models.blocks.sides import Layer, convolution, side_after
from pipeline.vision.models.outputs import Supervision

KERNEL = 9
PRIMARY_LENGTH, CLASS_LENGTH = 8, 16
PRESENT, ABSENT, ABSENT_WEIGHT = 0.9, 0.1, 0.5
"""m+, m- and λ of the margin loss."""
RECONSTRUCTION_WEIGHT = 0.392
LARGE = 64
"""Pixels from which on the first convolution has a stride."""


def capsnet(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    width: int = 256,
    primary_maps: int = 32,
    routing: int = 3,
    decoder: str = "dense",
    reconstruction_weight: float = RECONSTRUCTION_WEIGHT,
) -> CapsNet:
    """Build a `CapsNet`.

    Args:
        channels: of the images.
        num_classes: how many logits, at least two.
        image_size: side of the images in pixels.
        width: maps of the first convolution.
        primary_maps: maps of primary capsules, each of eight numbers a place.
        routing: rounds of routing.
        decoder: ``dense`` or ``transposed``.
        reconstruction_weight: of the mean squared error of the drawn pixels in the loss.

    Raises:
        ConfigurationError: an argument is out of its range, or the images are too small.
    """
    if num_classes < 2:
        raise ConfigurationError(
            f"capsnet has a capsule for each class and routes between them, and there is"
            f" {num_classes}; it needs two classes at least"
        )
    whole("width", width, low=1, high=1024)
    whole("primary_maps", primary_maps, low=1, high=256)
    whole("routing", routing, low=1, high=20)
    choice("decoder", decoder, DECODERS)
    number("reconstruction_weight", reconstruction_weight, low=0.0, high=1000.0)
    side = side_after("capsnet", image_size, _layers)
    return CapsNet(
        (channels, image_size, image_size),
        num_classes,
        width=width,
        primary=(primary_maps, side),
        stride=_stride(image_size),
        routing=routing,
        decoder=decoder,
        reconstruction_weight=reconstruction_weight,
    )


def _stride(image_size: int) -> int:
    return 2 if image_size >= LARGE else 1


def _layers(size: int) -> list[Layer]:
    return [convolution(KERNEL, _stride(size)), convolution(KERNEL, 2)]


class CapsNet(nn.Module):
    """In use logits (N, K); in training these and the class capsules (N, K, 16)."""

    def __init__(
        self,
        image: tuple[int, int, int],
        num_classes: int,
        *,
        width: int,
        primary: tuple[int, int],
        stride: int,
        routing: int,
        decoder: str,
        reconstruction_weight: float,
    ) -> None:
        super().__init__()
        maps, side = primary
        self.routing, self.reconstruction_weight = routing, reconstruction_weight
        self.first = nn.Sequential(
            nn.Conv2d(image[0], width, KERNEL, stride), nn.ReLU(inplace=True)
        )
        self.primary = nn.Conv2d(width, maps * PRIMARY_LENGTH, KERNEL, 2)
        capsules = maps * side**2
        self.votes = nn.Parameter(torch.empty(capsules, num_classes, CLASS_LENGTH, PRIMARY_LENGTH))
        # Votes are added up with shares of 1 / K, so that class capsules begin as long for any
        # numbers of both; for the paper's network it is the usual 0.1.
        nn.init.normal_(self.votes, std=0.34 * num_classes / math.sqrt(capsules))
        self.decoder = DECODERS[decoder](num_classes * CLASS_LENGTH, image)

    def capsules(self, images: Tensor) -> Tensor:
        """(N, C, H, W) normalised -> (N, K, 16): a vector for each class, each shorter than 1."""
        maps = self.primary(self.first(images))
        n, _, height, width = maps.shape
        places = maps.reshape(n, -1, PRIMARY_LENGTH, height, width)
        primary = squash(places.permute(0, 1, 3, 4, 2).flatten(1, 3).float())  # (N, P, 8)
        votes = torch.einsum("pkij,npj->npki", self.votes, primary)  # (N, P, K, 16)
        return route(votes, rounds=self.routing)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        capsules = self.capsules(images)
        logits = lengths(capsules).logit(eps=1e-6)
        return (logits, capsules) if self.training else logits

    def reconstruct(self, capsules: Tensor, shares: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1], drawn from capsules (N, K, 16) of which each class has a share
        (N, K): 1 for one class alone and 0 for the others."""
        drawn: Tensor = self.decoder((capsules * shares[:, :, None]).flatten(1))
        return drawn

    def training_loss(self, outputs: tuple[Tensor, ...], supervision: Supervision) -> Tensor:
        """See `OwnLoss`."""
        capsules, mass = outputs[1].float(), supervision.mass
        weights = mass.sum(dim=1)
        shares = mass / weights.clamp(min=1e-12)[:, None]
        smoothing = supervision.label_smoothing
        targets = shares * (1.0 - smoothing) + smoothing / mass.shape[1]
        losses = margin_loss(lengths(capsules), targets)
        if self.reconstruction_weight:
            errors = (self.reconstruct(capsules, shares) - supervision.pixels).square()
            losses = losses + self.reconstruction_weight * errors.mean(dim=(1, 2, 3))
        return (losses * weights).mean()


def squash(vectors: Tensor) -> Tensor:
    """(…, D) -> (…, D): the same directions, lengths n² / (1 + n²), below 1."""
    square = vectors.square().sum(dim=-1, keepdim=True)
    return vectors * (square / (1.0 + square) * (square + 1e-12).rsqrt())


def lengths(vectors: Tensor) -> Tensor:
    """(…, D) -> (…); of no length too it has a slope."""
    return (vectors.square().sum(dim=-1) + 1e-12).sqrt()


def route(votes: Tensor, *, rounds: int) -> Tensor:
    """Routing by agreement: votes (N, P, K, D) of P capsules for K -> these (N, K, D).

    It is computed in float32. The shares by which votes are added up are taken as given: a gradient
    comes to the votes alone.
    """
    votes = votes.float()
    given = votes.detach()
    agreement = torch.zeros_like(given[..., 0])  # (N, P, K)
    for _ in range(rounds - 1):
        shares = agreement.softmax(dim=2)
        # Products and sums, as autocast would make a product of matrices in reduced precision.
        capsules = squash((shares[..., None] * given).sum(dim=1))
        agreement = agreement + (given * capsules[:, None]).sum(dim=3)
    shares = agreement.softmax(dim=2)
    return squash((shares[..., None] * votes).sum(dim=1))


def margin_loss(lengths: Tensor, targets: Tensor) -> Tensor:
    """(N,): equation 4 of the paper, for lengths (N, K) and shares of the classes (N, K)."""
    present = targets * (PRESENT - lengths).clamp(min=0.0).square()
    absent = (1.0 - targets) * (lengths - ABSENT).clamp(min=0.0).square()
    return (present + ABSENT_WEIGHT * absent).sum(dim=1)


def dense_decoder(features: int, image: tuple[int, int, int]) -> nn.Module:
    """The paper's: 512 and 1,024 hidden units."""
    return nn.Sequential(
        nn.Linear(features, 512),
        nn.ReLU(inplace=True),
        nn.Linear(512, 1024),
        nn.ReLU(inplace=True),
        nn.Linear(1024, math.prod(image)),
        nn.Sigmoid(),
        nn.Unflatten(1, image),
    )


def transposed_decoder(features: int, image: tuple[int, int, int]) -> nn.Module:
    """From 64 maps of an eighth of the side, doubled three times and cut to size."""
    channels, height, _ = image
    side = -(-height // 8)
    layers: list[nn.Module] = [nn.Linear(features, 64 * side**2), nn.Unflatten(1, (64, side, side))]
    for before, after in ((64, 64), (64, 32), (32, 16)):
        layers += [nn.ReLU(inplace=True), transposed(before, after)]
    return nn.Sequential(
        *layers,
        nn.ReLU(inplace=True),
        nn.Conv2d(16, channels, 3, padding=1),
        nn.Sigmoid(),
        Cut(height),
    )


class Cut(nn.Module):
    """(N, C, H, W) -> (N, C, side, side), the upper left part."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, : self.side, : self.side]


DECODERS: dict[str, Any] = {"dense": dense_decoder, "transposed": transposed_decoder}
"""name -> f(features, image), from features (N, D) to images of that shape (C, H, W) in [0, 1]."""
