"""Activations: what makes a layer more than a matrix."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn


class ScaledTanh(nn.Module):
    """1.7159 tanh(2x / 3): 1 at 1 and -1 at -1, so that targets are where it still bends.

    LeCun, Generalization and network design strategies, 1989; LeCun et al., Gradient-based learning
    applied to document recognition, 1998.
    """

    def forward(self, features: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(features * (2.0 / 3.0))


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "scaled_tanh": ScaledTanh,
    "relu": functools.partial(nn.ReLU, inplace=True),  # Glorot et al. 2011
    "leaky_relu": functools.partial(nn.LeakyReLU, 0.01, inplace=True),  # Maas et al. 2013
    "gelu": nn.GELU,  # Hendrycks and Gimpel 2016 (arXiv:1606.08415)
    "silu": functools.partial(nn.SiLU, inplace=True),  # Elfwing et al. 2017 (arXiv:1702.03118)
}
"""name -> what makes the layer."""

NEVER_NEGATIVE = ("sigmoid", "relu")
"""Those whose values can be taken for probabilities, once they are divided by their sum."""
