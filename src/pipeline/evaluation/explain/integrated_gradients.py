"""Integrated gradients: the gradient, averaged on the straight way from a baseline to the image.

Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, 2017 (arXiv:1703.01365).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.evaluation.explain.covers import mean_colour
from pipeline.evaluation.explain.gradient import BATCH, evaluating, gradient

STEPS = 32


def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    baseline: float | Tensor | None = None,
    steps: int = STEPS,
) -> Tensor:
    """What each pixel adds to the logit, in logits, (N, 1, H, W); negative where it takes away.

    The values of an image add up to the difference between its logit and the baseline's
    (completeness), up to the error of the integral, which `completeness_gap` measures.

    Args:
        model: takes ``images``, returns logits (N, K).
        images: (N, C, H, W) in [0, 1].
        targets: (N,) the classes whose logits are explained.
        baseline: where the way begins, broadcast to ``images``: by default each image's own mean
            colour, because black is no absence in a photograph (docs/adr/0024).
        steps: points of the Gauss-Legendre quadrature.

    Raises:
        CannotExplain: the network has no gradient.
    """
    start = _start(images, baseline)
    maps = [
        _integrated(model, *part, steps)
        for part in zip(
            torch.split(images, BATCH),
            torch.split(targets, BATCH),
            torch.split(start, BATCH),
            strict=True,
        )
    ]
    return torch.cat(maps)


def _start(images: Tensor, baseline: float | Tensor | None) -> Tensor:
    if baseline is None:
        return mean_colour(images)
    return torch.as_tensor(baseline, dtype=images.dtype, device=images.device).expand_as(images)


def _integrated(
    model: nn.Module, images: Tensor, targets: Tensor, start: Tensor, steps: int
) -> Tensor:
    change = images - start
    total = torch.zeros_like(images)
    places, weights = (
        torch.as_tensor(values, dtype=images.dtype, device=images.device)
        for values in _quadrature(steps)
    )
    at_a_time = max(1, BATCH // len(images))  # points of the way, each of all images
    for place, weight in zip(
        torch.split(places, at_a_time), torch.split(weights, at_a_time), strict=True
    ):
        points = start + place.view(-1, 1, 1, 1, 1) * change  # (s, N, C, H, W)
        gradients = gradient(model, points.flatten(0, 1), targets.repeat(len(place)))
        total += torch.einsum("s,snchw->nchw", weight, gradients.view_as(points))
    return (change * total).sum(dim=1, keepdim=True)


@cache
def _quadrature(steps: int) -> tuple[list[float], list[float]]:
    """Places and weights on [0, 1]."""
    places, weights = np.polynomial.legendre.leggauss(steps)
    return ((places + 1) / 2).tolist(), (weights / 2).tolist()


def completeness_gap(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    baseline: float | Tensor | None = None,
) -> Tensor:
    """By how much each map's sum misses the difference of the logits, as a share of it, (N,)."""
    with torch.no_grad(), evaluating(model):
        logits, of_start = model(images), model(_start(images, baseline))
    difference = (logits - of_start).gather(1, targets[:, None])[:, 0]
    return (maps.sum(dim=(1, 2, 3)) - difference).abs() / difference.abs()
