"""Networks of timm (Wightman, PyTorch Image Models) by name, and their weights."""

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

    net: nn.Module = timm.create_model(
        name,
        pretrained=False,
        in_chans=channels,
        num_classes=num_classes,
        **_size_arguments(name, image_size) | architecture,
    )
    return net


def weights(name: str) -> list[str]:
    """The tags of timm's pretrained weights of the network ``name``."""
    import timm

    tagged = timm.list_pretrained(f"{name}.*")
    return [full.removeprefix(f"{name}.") for full in tagged]


def build_pretrained(
    name: str, weights: str, *, image_size: int, architecture: dict[str, Any]
) -> nn.Module:
    """The network with ``weights``, for three channels and of their own classes.

    timm fits what belongs to another image size, such as embeddings of positions.
    """
    import timm

    net: nn.Module = timm.create_model(
        name if weights == "default" else f"{name}.{weights}",
        pretrained=True,
        **_size_arguments(name, image_size) | architecture,
    )
    return net


def _size_arguments(name: str, image_size: int) -> dict[str, Any]:
    import timm

    config = timm.models.get_pretrained_cfg(name)
    return {"img_size": image_size} if config is not None and config.fixed_input_size else {}
