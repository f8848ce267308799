"""The two ends of a network: the layer that sees the image, and those that give the logits."""

from __future__ import annotations

from torch import nn

from pipeline.vision.models.classifier import Classifier

MatrixLayer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
"""Layers whose weight is a matrix, or a convolution's, which is one of (outputs, the rest)."""


def matrix_layers(net: nn.Module) -> dict[str, MatrixLayer]:
    """All of them by name, in the order they were made in, which is that of the computation."""
    return {name: layer for name, layer in net.named_modules() if isinstance(layer, MatrixLayer)}


def first_layer(net: nn.Module) -> str | None:
    """The name of the first convolution, or of the first matrix where there is no convolution."""
    layers = matrix_layers(net)
    convolutions = [name for name, layer in layers.items() if not isinstance(layer, nn.Linear)]
    return next(iter([*convolutions, *layers]), None)


def head_layers(net: nn.Module) -> set[str]:
    """The names of the layers that give the logits: those that an own network lists in ``heads``,
    what timm says they are, or the last one."""
    whole = net.net if isinstance(net, Classifier) else net
    parts: tuple[nn.Module, ...] = ()
    if isinstance(listed := getattr(whole, "heads", None), tuple):
        parts = tuple(whole.get_submodule(name) for name in listed)
    elif callable(named := getattr(whole, "get_classifier", None)):
        heads = named()
        parts = heads if isinstance(heads, tuple) else (heads,)
    if parts:
        inside = {id(module) for part in parts for module in part.modules()}
        found = {name for name, layer in matrix_layers(net).items() if id(layer) in inside}
        if found:
            return found
    return set(list(matrix_layers(net))[-1:])
