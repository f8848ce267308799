"""Corruptions on the way of an image: contrast, elastic transform, pixelation and JPEG."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.evaluation.robustness.blur import gaussian_blur
from pipeline.evaluation.robustness.corruption import Corruption, Randomness
from pipeline.vision.randomness import OnDevices

_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 32),
)
_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_BLOCK = 8


def contrast(images: Tensor, randomness: Randomness, kept: float) -> Tensor:  # noqa: ARG001
    """Only this share of the differences from each channel's mean is left."""
    mean = images.mean(dim=(2, 3), keepdim=True)
    return torch.lerp(mean, images, kept)


def elastic(
    images: Tensor, randomness: Randomness, strength: float, sigma: float, affine: float
) -> Tensor:
    """Stretched and bent like rubber; all three settings are shares of the side.

    Three points of the image move by up to ``affine``, then each pixel by a smooth random field.
    """
    height, width = images.shape[2:]
    grid = functional.affine_grid(
        _three_points(randomness.uniform(6), affine), list(images.shape), align_corners=False
    )
    if strength:
        field = 2.0 * randomness.uniform(2 * height * width + 6)[:, 6:] - 1.0
        smooth = gaussian_blur(field.view(-1, 2, height, width), sigma * width)
        grid = grid + 2.0 * strength * smooth.permute(0, 2, 3, 1)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _three_points(u: Tensor, affine: float) -> Tensor:
    """(N, 6) random numbers -> (N, 2, 3): the affine map that moves three points of a square."""
    points = torch.tensor([[2 / 3, 2 / 3], [2 / 3, -2 / 3], [-2 / 3, -2 / 3]], device=u.device)
    # From pixels' shares of the side to coordinates that reach from -1 to 1.
    moved = points + 2.0 * affine * (2.0 * u.view(-1, 3, 2) - 1.0)
    ones = torch.ones(3, 1, device=u.device)
    # Solved by the inverse of a constant: three points to three points.
    inverse = torch.linalg.inv(torch.cat([points, ones], dim=1))
    return (inverse @ moved).mT


def pixelate(images: Tensor, randomness: Randomness, kept: float) -> Tensor:  # noqa: ARG001
    """Shrunk to this share of the side by the mean of the area, and blown up again to blocks."""
    down, across = (_boxes(side, kept).on(images.device) for side in images.shape[2:])
    return down @ images @ across.mT


def jpeg(images: Tensor, randomness: Randomness, quality: float) -> Tensor:  # noqa: ARG001
    """What JPEG loses: the rounding of each block's cosine transform (ITU-T T.81, annex K).

    Colour is stored at half the size, as by default in libjpeg.
    """
    channels, height, width = images.shape[1:]
    planes = images * 255.0
    if channels == 1:
        return _rounded_blocks(planes - 128.0, _LUMINANCE, quality).add_(128.0) / 255.0
    to_ycc = torch.tensor(_TO_YCBCR, device=images.device)
    ycc = torch.einsum("ij,njhw->nihw", to_ycc, planes)
    luma = _rounded_blocks(ycc[:, :1] - 128.0, _LUMINANCE, quality) + 128.0
    even = functional.pad(ycc[:, 1:], (0, width % 2, 0, height % 2), mode="replicate")
    small = _rounded_blocks(functional.avg_pool2d(even, 2), _CHROMINANCE, quality)
    chroma = functional.interpolate(small, scale_factor=2.0, mode="bilinear")
    joined = torch.cat([luma, chroma[:, :, :height, :width]], dim=1)
    return torch.einsum("ij,njhw->nihw", torch.linalg.inv(to_ycc), joined) / 255.0


def _rounded_blocks(planes: Tensor, table: tuple[int, ...], quality: float) -> Tensor:
    """Blocks of 8 x 8 through the cosine transform, rounded to steps of the table, and back."""
    count, channels, height, width = planes.shape
    padding = (0, -width % _BLOCK, 0, -height % _BLOCK)
    blocks = functional.pad(planes, padding, mode="replicate")
    rows, columns = blocks.shape[2] // _BLOCK, blocks.shape[3] // _BLOCK
    blocks = blocks.view(count, channels, rows, _BLOCK, columns, _BLOCK).transpose(3, 4)
    cosines = _cosines().on(planes.device)
    steps = _steps(table, quality).on(planes.device)
    coefficients = cosines @ blocks @ cosines.mT
    kept = cosines.mT @ ((coefficients / steps).round() * steps) @ cosines
    whole = kept.transpose(3, 4).reshape(count, channels, rows * _BLOCK, columns * _BLOCK)
    return whole[:, :, :height, :width]


@functools.lru_cache(maxsize=1)
def _cosines() -> OnDevices:
    """(8, 8): the orthonormal discrete cosine transform."""
    k, x = np.arange(_BLOCK)[:, None], np.arange(_BLOCK)
    matrix = np.cos((2 * x + 1) * k * math.pi / (2 * _BLOCK)) * math.sqrt(2 / _BLOCK)
    matrix[0] /= math.sqrt(2)
    return OnDevices(torch.from_numpy(matrix).float())


@functools.lru_cache(maxsize=32)
def _steps(table: tuple[int, ...], quality: float) -> OnDevices:
    """(8, 8): the table at this quality, as libjpeg scales it."""
    scale = 5000.0 / quality if quality < 50 else 200.0 - 2.0 * quality
    steps = ((torch.tensor(table) * scale + 50.0) / 100.0).floor().clamp(1.0, 255.0)
    return OnDevices(steps.view(_BLOCK, _BLOCK))


@functools.lru_cache(maxsize=64)
def _boxes(side: int, kept: float) -> OnDevices:
    """(side, side): a line of pixels times this is shrunk to its share and blown up again."""
    small = max(1, int(side * kept))
    edges, cells = np.arange(side + 1) / side, np.arange(small + 1) / small
    overlap = np.minimum(edges[1:, None], cells[1:]) - np.maximum(edges[:-1, None], cells[:-1])
    shrinking = overlap.clip(min=0.0).T * small  # (small, side)
    block = ((np.arange(side) + 0.5) * small / side).astype(np.int64)
    return OnDevices(torch.from_numpy(shrinking[block]).float())


DIGITAL: dict[str, Corruption] = {
    "contrast": Corruption(
        "Contrast", "digital", contrast, ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,))
    ),
    "elastic_transform": Corruption(
        "Elastic transform",
        "digital",
        elastic,
        (
            (0.0, 0.0, 0.08),
            (0.05, 0.3, 0.06),
            (0.1, 0.08, 0.06),
            (0.1, 0.03, 0.03),
            (0.16, 0.03, 0.02),
        ),
    ),
    "pixelate": Corruption(
        "Pixelate", "digital", pixelate, ((0.9,), (0.8,), (0.7,), (0.6,), (0.5,))
    ),
    "jpeg_compression": Corruption(
        "JPEG compression", "digital", jpeg, ((65.0,), (58.0,), (50.0,), (40.0,), (25.0,))
    ),
}
