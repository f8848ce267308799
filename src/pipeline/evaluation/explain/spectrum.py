"""Fourier spectra of kernels and images: which waves a kernel lets through, which an image has."""

from __future__ import annotations

import torch
from torch import Tensor


def spectrum(planes: Tensor, side: int | None = None) -> Tensor:
    """(…, H, W) -> (…, side, side): amplitudes, the mean in the middle, short waves at the edge.

    The amplitude at (y, x) from the middle is that of waves that pass y times down and x times
    across a square of ``side`` pixels. By the convolution theorem a kernel's says by how much it
    strengthens each.

    Args:
        planes: kernels or images.
        side: at least H and W, to which they are padded by zeros; the larger of both by default.
    """
    side = side or max(planes.shape[-2:])
    if side < max(planes.shape[-2:]):
        raise ValueError(f"a spectrum of side {side} cannot hold {tuple(planes.shape[-2:])} pixels")
    return torch.fft.fftshift(torch.fft.fft2(planes, s=(side, side)), dim=(-2, -1)).abs()
