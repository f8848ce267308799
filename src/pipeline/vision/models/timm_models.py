"""Networks of timm (Wightman, PyTorch Image Models) by name, untrained."""

from __future__ import annotations

from typing import Any

from torch import nn


def names() -> list[str]:
    """timm's networks, without the tags of their pretrained weights."""
    import timm

    return list(timm.list_models())


def build(
    name: str, *, channels: int, num_classes: int, image_size: int, architecture: dict[str, Any]
) -> nn.Module:
    """The network ``name``; whatever timm raises on its arguments passes through."""
    import timm

    config = timm.models.get_pretrained_cfg(name)
    arguments: dict[str, Any] = {}
    if config is not None and config.fixed_input_size:
        arguments["img_size"] = image_size
    net: nn.Module = timm.create_model(
        name,
        pretrained=False,
        in_chans=channels,
        num_classes=num_classes,
        **arguments | architecture,
    )
    return net
