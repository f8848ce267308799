"""Networks of torchvision by name, for images of any number of channels, and their weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_SIZE_ARGUMENTS = {"vit_": "image_size", "maxvit": "input_size"}
"""Networks made for one image size, by the start of their name."""

_AUXILIARY_HEADS = ("googlenet", "inception_v3")
"""They return extra logits in training, unless built without these heads."""


def names() -> list[str]:
    """torchvision's classification networks."""
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


def build(
    name: str, *, channels: int, num_classes: int, image_size: int, architecture: dict[str, Any]
) -> nn.Module:
    """The network ``name``; whatever torchvision raises on its arguments passes through."""
    import torchvision

    arguments: dict[str, Any] = {}
    for start, key in _SIZE_ARGUMENTS.items():
        if name.startswith(start):
            arguments[key] = image_size if key == "image_size" else (image_size, image_size)
    if name in _AUXILIARY_HEADS:
        arguments |= {"aux_logits": False, "init_weights": True}
    net: nn.Module = torchvision.models.get_model(
        name, weights=None, num_classes=num_classes, **arguments | architecture
    )
    if channels != 3:
        _adapt_first_convolution(net, channels)
    return net


def weights(name: str) -> list[str]:
    """The names of torchvision's pretrained weights of the network ``name``."""
    import torchvision

    return [weights.name for weights in torchvision.models.get_model_weights(name)]


def build_pretrained(
    name: str, weights: str, *, image_size: int, architecture: dict[str, Any]
) -> nn.Module:
    """The network with ``weights`` as torchvision has them: for three channels, of its classes."""
    import torchvision

    del image_size  # that of the weights
    arguments: dict[str, Any] = {"aux_logits": False} if name in _AUXILIARY_HEADS else {}
    known = torchvision.models.get_model_weights(name)
    net: nn.Module = torchvision.models.get_model(
        name,
        weights=known["DEFAULT" if weights == "default" else weights],
        progress=False,
        **arguments | architecture,
    )
    return net


def _adapt_first_convolution(net: nn.Module, channels: int) -> None:
    """Make the first convolution take ``channels`` in place of red, green and blue.

    Its new kernels are the mean over the colours, scaled so that a grey image gives what the same
    image in three equal colours gave.
    """
    name, old = next(
        (name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d)
    )
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]  # torch keeps what may be longer tuples
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        dilation=old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
    with torch.no_grad():
        mean = old.weight.mean(dim=1, keepdim=True)
        new.weight.copy_((mean * old.in_channels / channels).expand_as(new.weight))
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    parent, _, attribute = name.rpartition(".")
    setattr(net.get_submodule(parent), attribute, new)
