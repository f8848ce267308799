"""What the places of an image are covered with, where something is to be taken away from it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def mean_colour(images: Tensor) -> Tensor:
    return images.mean(dim=(2, 3), keepdim=True).expand_as(images)


def blurred(images: Tensor) -> Tensor:
    """By a Gaussian of an eighth of the side: no detail is left, nothing new has come."""
    return _blur(_blur(images).transpose(2, 3)).transpose(2, 3)


def _blur(images: Tensor) -> Tensor:
    """Along the last dimension, the image mirrored at its edges."""
    side = images.shape[3]
    reach = side - 1
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (places / (side / 8)) ** 2)
    rows = functional.pad(images.flatten(0, 2)[:, None], (reach, reach), mode="reflect")
    return functional.conv1d(rows, (kernel / kernel.sum())[None, None]).view(images.shape)


COVERS: dict[str, Callable[[Tensor], Tensor]] = {"mean": mean_colour, "blur": blurred}
"""What places are covered with."""
