"""Occlusion: by how much the logit falls when a patch of the image is covered.

Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2013 (arXiv:1311.2901),
section 4.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.evaluation.explain.covers import mean_colour
from pipeline.evaluation.explain.gradient import evaluating
from pipeline.evaluation.memory import at_a_time

PATCHES = 8
"""So many patches would lie side by side along the shorter side; they overlap by half."""
BATCH = 64
"""Covered images that are predicted at a time, of large ones fewer: a matter of memory."""


def occlusion(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    window: int | None = None,
    stride: int | None = None,
    fill: float | Tensor | None = None,
) -> Tensor:
    """The mean fall of the logit over the patches that cover a pixel, in logits, (N, 1, H, W).

    Negative where covering helps. It asks nothing of the network but predictions.

    Args:
        model: takes ``images``, returns logits (N, K).
        images: (N, C, H, W) in [0, 1].
        targets: (N,) the classes whose logits are explained.
        window: side of a patch in pixels; an eighth of the shorter side by default.
        stride: pixels from patch to patch; half a window by default.
        fill: what covers, broadcast to ``images``; the image's own mean colour by default.
    """
    window = window or max(1, min(images.shape[2:]) // PATCHES)
    masks = _masks(images, window, stride or max(1, window // 2))
    if fill is None:
        fill = mean_colour(images)
    cover = torch.as_tensor(fill, dtype=images.dtype, device=images.device).expand_as(images)
    size = at_a_time(BATCH, *images.shape[2:])
    parts = zip(*(torch.split(each, size) for each in (images, targets, cover)), strict=True)
    with torch.no_grad(), evaluating(model):
        falls = torch.cat(
            [_falls(model, some, wanted, over, masks, size) for some, wanted, over in parts]
        )
    weights = masks.flatten(1).to(images.dtype)  # (L, H * W)
    return (falls @ weights / weights.sum(dim=0)).view(-1, 1, *images.shape[2:])


def _masks(images: Tensor, window: int, stride: int) -> Tensor:
    """(L, H, W): the places of all patches; the last ones may reach beyond the edge."""
    rows, columns = (_spans(side, window, stride, images.device) for side in images.shape[2:])
    return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)


def _spans(side: int, window: int, stride: int, device: torch.device) -> Tensor:
    starts = torch.arange(0, max(1, side - window + stride), stride, device=device)[:, None]
    places = torch.arange(side, device=device)
    return (places >= starts) & (places < starts + window)


def _falls(
    model: nn.Module, images: Tensor, targets: Tensor, cover: Tensor, masks: Tensor, size: int
) -> Tensor:
    """(N, L): how far each image's target logit falls under each patch, ``size`` at a time."""
    whole = model(images).gather(1, targets[:, None])
    under = []
    for part in torch.split(masks, max(1, size // len(images))):
        covered = torch.where(part[:, None, None], cover, images)  # (l, N, C, H, W)
        logits = model(covered.flatten(0, 1)).gather(1, targets.repeat(len(part))[:, None])
        under.append(logits.view(len(part), len(images)))
    return whole - torch.cat(under).T
