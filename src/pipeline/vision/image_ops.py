"""Operations on a batch that differ from image to image, without a loop over the images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_TO_RGB = np.linalg.inv(_TO_YIQ)
_LUMA = _TO_RGB @ np.diag([1.0, 0.0, 0.0]) @ _TO_YIQ
_CHROMA = _TO_RGB @ np.diag([0.0, 1.0, 1.0]) @ _TO_YIQ
_TURNED = _TO_RGB @ np.array([[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]) @ _TO_YIQ


def per_image(values: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1, 1), to go with (N, C, H, W)."""
    return values[:, None, None, None]


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Look up each point of the result in its image: bilinear, mirrored at the border.

    ``matrices`` is (N, 3, 3) as `Geometry.matrix` gives it.
    """
    height, width = images.shape[2:]
    theta = matrices[:, :2].clone()
    theta[:, 0, 1] *= height / width
    theta[:, 1, 0] *= width / height
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def chroma_matrix(spread: Tensor, angle: Tensor) -> Tensor:
    """(N, 3, 3) that scales and turns colour about the grey axis and keeps luma (ITU-R BT.601).

    Made of numbers known on the host, so that a GPU has nothing to wait for.
    """
    along, across = spread * torch.cos(angle), spread * torch.sin(angle)  # (N,)
    entries = [
        along * float(_CHROMA[i, j]) + across * float(_TURNED[i, j]) + float(_LUMA[i, j])
        for i in range(3)
        for j in range(3)
    ]
    return torch.stack(entries, dim=1).view(-1, 3, 3)


def weighted_sum(shifted: Iterable[Tensor], weights: Tensor) -> Tensor:
    """Sum of (N, C, H, W) tensors, each image with its own (N, count) weights."""
    terms = zip(shifted, weights.unbind(dim=1), strict=True)
    first, weight = next(terms)
    total = first * per_image(weight)
    for image, weight in terms:
        total.addcmul_(image, per_image(weight))
    return total


def within(length: Tensor, start: Tensor, count: int) -> Tensor:
    """(N, count) whether a pixel lies in a stretch of ``length`` (a share), placed by ``start``."""
    centres = (torch.arange(count, device=length.device) + 0.5) / count
    begin = start * (1.0 - length)
    return (centres >= begin[:, None]) & (centres < (begin + length)[:, None])
