"""Operations on a batch that differ from image to image, without a loop over the images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def per_image(values: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1, 1), to go with (N, C, H, W)."""
    return values[:, None, None, None]


def memory_format_of(images: Tensor) -> torch.memory_format:
    """Channels last or contiguous, whichever (N, C, H, W) is stored in."""
    last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Look up each point of the result in its image: bilinear, mirrored at the border.

    ``matrices`` is (N, 3, 3) as `Geometry.matrix` gives it.
    """
    height, width = images.shape[2:]
    x, y = (_centres(side, images.device) for side in (width, height))
    if height != width:
        matrices = matrices.clone()
        matrices[:, 0, 1] *= height / width
        matrices[:, 1, 0] *= width / height
    across, down, constant = matrices[:, :2].unbind(dim=2)  # (N, 2) each, of x and y
    columns = (across.T[:, :, None] * x)[:, :, None]  # (2, N, 1, W)
    rows = (down.T[:, :, None] * y + constant.T[:, :, None])[:, :, :, None]  # (2, N, H, 1)
    # The two coordinates as planes: on a CPU several times faster than `affine_grid`.
    grid = (rows + columns).permute(1, 2, 3, 0)
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _centres(count: int, device: torch.device) -> Tensor:
    """(count,) where pixels lie on a side that reaches from -1 to 1."""
    return (2.0 * torch.arange(count, device=device) + 1.0) / count - 1.0


def take_pixels(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Put (N, C, H, W) together anew from its ``rows`` (N, H) and ``columns`` (N, W)."""
    count, channels, height, width = images.shape
    image = torch.arange(count, device=images.device)[:, None]
    if channels == 1:
        lines = images.reshape(-1, width).index_select(0, (image * height + rows).view(-1))
        columns = columns[:, None].expand(-1, height, -1)
        return lines.view(count, height, width).gather(2, columns)[:, None]
    place = ((image * height + rows) * width)[:, :, None] + columns[:, None, :]  # (N, H, W)
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
    # Several times faster than indexing by three tensors.
    taken = pixels.index_select(0, place.view(-1)).view(count, height, width, channels)
    return taken.permute(0, 3, 1, 2)


def mix_channels(images: Tensor, matrices: Tensor) -> Tensor:
    """Each pixel's channels times its image's matrix (N, C, C + 1), the last column added."""
    count, channels, height, width = images.shape
    if channels == 1:
        return torch.addcmul(per_image(matrices[:, 0, 1]), images, per_image(matrices[:, 0, 0]))
    pixels = images.reshape(count, channels, -1)
    mixed = torch.bmm(matrices[:, :, :-1], pixels).add_(matrices[:, :, -1:])
    return mixed.view(count, channels, height, width)


def within(length: Tensor, start: Tensor, count: int) -> Tensor:
    """(N, count) 1.0 where a pixel is in a stretch of ``length``, a share, placed by ``start``."""
    centres = (torch.arange(count, device=length.device) + 0.5) / count
    begin = start * (1.0 - length)
    return ((centres >= begin[:, None]) & (centres < (begin + length)[:, None])).float()


def outer(rows: Tensor, columns: Tensor) -> Tensor:
    """(N, H), (N, W) -> (N, 1, H, W), their products."""
    return (rows[:, :, None] * columns[:, None, :])[:, None]
