"""What every network is wrapped in: pixels in, logits out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """(x - mean) / std per channel; not part of the state dict, for `ModelCard` owns both."""

    scale: Tensor
    offset: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # Half a grey level: pixels that never differ must not be blown up by their rounding.
        spread = torch.tensor(std, dtype=torch.float32).clamp(min=0.5 / 255)
        centre = torch.tensor(mean, dtype=torch.float32)
        self.register_buffer("scale", (1.0 / spread).view(-1, 1, 1), persistent=False)
        self.register_buffer("offset", (-centre / spread).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.offset, images, self.scale)  # one pass over memory


Outputs = Tensor | tuple[Tensor, ...]
"""Logits (N, num_classes); in training perhaps a tuple of them and more, see `models.outputs`."""


class Classifier(nn.Module):
    """A network together with its normalisation, and with what stands before it.

    Takes ``float32`` (N, C, H, W) in [0, 1], returns logits (N, num_classes), in training perhaps
    more (`Outputs`). Nothing outside knows mean or standard deviation.

    Attributes:
        front: filters of the normalised images, see `models.front`; None: the network sees them.
        views: a name of `vision.views.VIEWS`: what `predict_logits` takes the mean over.
    """

    views = "none"

    def __init__(
        self,
        normalise: Normalise,
        net: nn.Module,
        *,
        channels: int,
        num_classes: int,
        front: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.front = front
        self.net = net
        self.channels = channels
        self.num_classes = num_classes

    def forward(self, images: Tensor) -> Outputs:
        images = self.normalise(images)
        if self.front is not None:
            images = self.front(images)
        outputs: Outputs = self.net(images)
        return outputs

    @property
    def num_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters())
