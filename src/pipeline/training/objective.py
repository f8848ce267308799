"""What a training minimises: weighted cross-entropy with label smoothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

from pipeline.errors import DataRefused


def class_weights(targets: Tensor, sample_weights: Tensor, *, num_classes: int) -> Tensor:
    """Weights that let every class count the same: total / (K * the class's own total).

    Args:
        targets: (N,) int64.
        sample_weights: (N,) float32, not negative.

    Returns:
        (K,) float32; 0 for a class of no weight, which has nothing to balance.
    """
    totals = torch.zeros(num_classes).index_add_(0, targets.cpu(), sample_weights.cpu().float())
    balanced = totals.sum() / (num_classes * totals)
    return torch.where(totals > 0, balanced, 0.0).to(targets.device)


def image_weights(targets: Tensor, sample_weights: Tensor, by_class: Tensor) -> Tensor:
    """(N,) float32: each image's share in the objective, 1 on average.

    The mean of 1 lets a learning rate mean the same with weights and without.

    Raises:
        DataRefused: no image has a positive weight.
    """
    weights = by_class[targets] * sample_weights
    mean = weights.mean()
    if not mean > 0:
        raise DataRefused(
            "every image of a split has weight 0, so nothing can be learned or measured there;"
            " correct the column 'weight' of data/metadata.csv, or set"
            " train.use_sample_weights: false in params.yaml"
        )
    return weights / mean


def cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor, *, label_smoothing: float
) -> Tensor:
    """The batch's mean of ``weights`` times each image's cross-entropy, in float32.

    Args:
        logits: (B, K), of any floating type.
        targets: (B,) int64.
        weights: (B,) float32, as `image_weights` gives them. They are not made to sum to B again
            within the batch: the gradient stays an unbiased estimate of the whole split's.
    """
    per_image = F.cross_entropy(
        logits.float(), targets, reduction="none", label_smoothing=label_smoothing
    )
    return (per_image * weights).mean()
