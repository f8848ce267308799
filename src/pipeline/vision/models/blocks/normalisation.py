"""Normalisations of feature maps (N, C, H, W) and of features (N, C)."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

GROUPS = 8


def batch_norm(channels: int, *, maps: bool) -> nn.Module:
    """Each channel over the batch: Ioffe and Szegedy, 2015 (arXiv:1502.03167)."""
    return nn.BatchNorm2d(channels) if maps else nn.BatchNorm1d(channels)


def group_norm(channels: int, *, maps: bool) -> nn.Module:
    """Groups of channels of each image: Wu and He, 2018 (arXiv:1803.08494).

    There are `GROUPS`, or where that does not divide the channels, the largest number that divides
    both.
    """
    del maps
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def layer_norm(channels: int, *, maps: bool) -> nn.Module:
    """All of an image's features together: Ba et al., 2016 (arXiv:1607.06450)."""
    del maps
    return nn.GroupNorm(1, channels)


def none(channels: int, *, maps: bool) -> nn.Module:
    """Nothing: layers before it then have biases."""
    del channels, maps
    return nn.Identity()


NORMALISATIONS: dict[str, Callable[..., nn.Module]] = {
    "batch": batch_norm,
    "group": group_norm,
    "layer": layer_norm,
    "none": none,
}
"""name -> f(channels, maps=…), ``maps`` being whether there are height and width."""
