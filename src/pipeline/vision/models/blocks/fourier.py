"""Filters of the images' frequencies.

Yin et al., A Fourier perspective on model robustness in computer vision, 2019 (arXiv:1906.08988).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NYQUIST = 0.5
"""Cycles a pixel: the highest frequency that rows and columns can hold."""


class FourierFilter(nn.Module):
    """Images (N, C, H, W) with the frequencies of one side of ``cutoff`` alone.

    The filter is sharp and the same in all directions. The mean of an image is its lowest
    frequency, so a high pass takes it away.
    """

    def __init__(self, *, cutoff: float, high_pass: bool) -> None:
        """
        Args:
            cutoff: in cycles a pixel; it belongs to the low frequencies.
            high_pass: keep what is above the cutoff, not what is up to it.
        """
        super().__init__()
        self.cutoff, self.high_pass = cutoff, high_pass

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        rows = torch.fft.fftfreq(height, device=images.device)
        columns = torch.fft.rfftfreq(width, device=images.device)
        # Squares, and a little more: a frequency that is the cutoff may be rounded past it.
        low = rows.square()[:, None] + columns.square() <= self.cutoff**2 * (1 + 1e-6)
        spectrum = torch.fft.rfft2(images.float())
        kept = torch.where(low != self.high_pass, spectrum, 0)
        return torch.fft.irfft2(kept, s=(height, width))
