"""First layers that are not learned: kernels of image processing, the same for each channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

KERNELS: dict[str, tuple[tuple[tuple[float, ...], ...], ...]] = {
    "identity": (((0, 0, 0), (0, 1, 0), (0, 0, 0)),),
    # Sobel and Feldman, 1968: the slope to the right and the slope downwards.
    "sobel": (
        ((-1 / 8, 0, 1 / 8), (-2 / 8, 0, 2 / 8), (-1 / 8, 0, 1 / 8)),
        ((-1 / 8, -2 / 8, -1 / 8), (0, 0, 0), (1 / 8, 2 / 8, 1 / 8)),
    ),
    "gauss": (((1 / 16, 2 / 16, 1 / 16), (2 / 16, 4 / 16, 2 / 16), (1 / 16, 2 / 16, 1 / 16)),),
    "sharpen": (((0, -1, 0), (-1, 5, -1), (0, -1, 0)),),
}
"""name -> kernels of 3×3. A slope is grey levels a pixel; the others keep an even area as it is."""


class FixedKernels(nn.Module):
    """(N, C, H, W) -> (N, C * K, H, W): what K kernels make of each channel.

    The channels of the first image channel come first, in the order of the kernels. Beyond the
    border the image goes on as at its edge, which is no edge to be found.
    """

    kernels: Tensor

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        kernels = [kernel for name in names for kernel in KERNELS[name]]
        self.register_buffer(
            "kernels", torch.tensor(kernels, dtype=torch.float32)[:, None], persistent=False
        )

    @property
    def per_channel(self) -> int:
        return len(self.kernels)

    def forward(self, images: Tensor) -> Tensor:
        n, channels, height, width = images.shape
        padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
        planes = padded.reshape(n * channels, 1, height + 2, width + 2)
        return functional.conv2d(planes, self.kernels).reshape(n, -1, height, width)
