"""Test-time augmentation: a prediction as the mean over mirrored and turned views of the image.

The mean is taken of probabilities. It is the same, but for rounding, whichever of its views an
image is given as.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

View = tuple[bool, bool, bool]
"""Whether the image is mirrored top to bottom, left to right, and then along its diagonal."""

VIEWS: dict[str, tuple[View, ...]] = {
    "none": ((False, False, False),),
    "flip": ((False, False, False), (False, True, False)),
    "flips": tuple((rows, columns, False) for rows in (False, True) for columns in (False, True)),
    "dihedral": tuple(
        (rows, columns, diagonal)
        for diagonal in (False, True)
        for rows in (False, True)
        for columns in (False, True)
    ),
}
"""The last holds all eight ways to lay down a square."""


def view(images: Tensor, chosen: View) -> Tensor:
    """(N, C, H, W) -> (N, C, H, W), in the memory format of ``images``; H = W for a diagonal."""
    rows, columns, diagonal = chosen
    if sides := [side for side, mirrored in ((2, rows), (3, columns)) if mirrored]:
        images = images.flip(sides)
    return images.transpose(2, 3) if diagonal else images


def mean_logits(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    views: str,
    memory_format: torch.memory_format,
) -> Tensor:
    """The logarithm of the mean probabilities over ``views``; the network's logits for one alone.

    Args:
        network: from images to logits (N, K).
        images: (N, C, H, W).
        views: a key of `VIEWS`.
        memory_format: what the network gets its images in.

    Returns:
        (N, K) ``float32``, whose softmax is that mean.
    """
    logits = [
        network(view(images, chosen).contiguous(memory_format=memory_format)).float()
        for chosen in VIEWS[views]
    ]
    if len(logits) == 1:
        return logits[0]
    log_probabilities = torch.stack(logits).log_softmax(dim=2)
    # The logarithm of the sum, without the way over probabilities that may vanish.
    return log_probabilities.logsumexp(dim=0) - math.log(len(logits))
