"""Initial weights, drawn from torch's global generator for the layers of a whole network."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from pipeline.vision.models.layers import MatrixLayer, matrix_layers


def _each(draw: Callable[[torch.Tensor], object]) -> Callable[[nn.Module], None]:
    """Draw every weight alike, and begin with biases of 0."""

    def initialise(net: nn.Module) -> None:
        for layer in matrix_layers(net).values():
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    return initialise


@torch.no_grad()
def lecun(net: nn.Module) -> None:
    """Weights and biases uniform within 2.4 / fan-in: LeCun et al., 1998."""
    for layer in matrix_layers(net).values():
        bound = 2.4 / layer.weight[0].numel()
        layer.weight.uniform_(-bound, bound)
        if layer.bias is not None:
            layer.bias.uniform_(-bound, bound)


@torch.no_grad()
def nielsen(net: nn.Module) -> None:
    """As ``network3.py`` of Nielsen, Neural Networks and Deep Learning, chapter 6, has it.

    Weights N(0, 1 / n), n being the units that a layer leads to: its outputs, in a convolution
    times the kernel's area over that of the pooling (2×2) that follows. Biases N(0, 1). The last
    layer begins with zeros.
    """
    *hidden, last = matrix_layers(net).values()
    for layer in hidden:
        layer.weight.normal_(0.0, math.sqrt(1.0 / _leads_to(layer)))
        if layer.bias is not None:
            layer.bias.normal_()
    last.weight.zero_()
    if last.bias is not None:
        last.bias.zero_()


def _leads_to(layer: MatrixLayer) -> float:
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.out_channels * math.prod(layer.kernel_size) / 4


def he_fan_out(net: nn.Module) -> None:
    """As torchvision's ResNets: convolutions by what each unit leads to (He et al., 2015), the rest
    as PyTorch makes it."""
    for layer in matrix_layers(net).values():
        if not isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def pytorch(net: nn.Module) -> None:
    """As PyTorch's layers are made: uniform within 1 / sqrt(fan-in)."""
    del net


INITIALISATIONS: dict[str, Callable[[nn.Module], None]] = {
    "xavier": _each(nn.init.xavier_uniform_),  # Glorot and Bengio, 2010
    "he": _each(lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu")),  # He, 2015
    "he_fan_out": he_fan_out,
    "orthogonal": _each(nn.init.orthogonal_),  # Saxe et al., 2013 (arXiv:1312.6120)
    "lecun": lecun,
    "nielsen": nielsen,
    "pytorch": pytorch,
}
"""name -> f(net), which changes the net in place."""
