"""A spatial transformer: the network learns where to look.

Jaderberg et al., Spatial transformer networks, 2015 (arXiv:1506.02025).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_SIDE = 4
"""Of the maps that the transformation is read from, whatever the size of the image."""


class SpatialTransformer(nn.Module):
    """(N, C, H, W) -> (N, C, H, W): each image moved by an affine map of its own, learned.

    It begins as the identity: the last layer of its localisation network gives that, whatever it
    is shown. Outside the image is 0, the mean of normalised images.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.localisation = nn.Sequential(
            nn.Conv2d(channels, 16, 5, stride=2, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 5, stride=2, padding=2),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(_SIDE),
            nn.Flatten(),
            nn.Linear(32 * _SIDE**2, 64),
            nn.ReLU(inplace=True),
        )
        self.theta = nn.Linear(64, 6)
        nn.init.zeros_(self.theta.weight)
        with torch.no_grad():
            self.theta.bias.copy_(torch.eye(2, 3).flatten())

    def forward(self, images: Tensor) -> Tensor:
        features = self.localisation(images).float()
        # Products and sums, in float32: rounded to bfloat16, places would be wrong by half a pixel.
        theta = (features[:, None] * self.theta.weight).sum(dim=2) + self.theta.bias
        grid = functional.affine_grid(theta.view(-1, 2, 3), list(images.shape), align_corners=False)
        return functional.grid_sample(images.float(), grid, align_corners=False)
