"""What a training minimises: weighted cross-entropy with label smoothing, or a network's own loss.

The target of an image is its class or, where its label is soft or mixed with another's, a *mass*
for each class: how much the image counts as one of it. An image of weight w and class k is the mass
w there and 0 elsewhere, and both give the same loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from pipeline.errors import DataRefused
from pipeline.vision.models.classifier import Outputs
from pipeline.vision.models.outputs import Supervision, loss_of


def class_weights(targets: Tensor, sample_weights: Tensor, *, num_classes: int) -> Tensor:
    """Weights that let every class count the same: total / (K * the class's own total).

    Args:
        targets: (N,) int64.
        sample_weights: (N,) float32, not negative.

    Returns:
        (K,) float32; 0 for a class of no weight, which has nothing to balance.
    """
    totals = torch.zeros(num_classes).index_add_(0, targets.cpu(), sample_weights.cpu().float())
    return _balanced(totals).to(targets.device)


def _balanced(totals: Tensor) -> Tensor:
    """(K,) -> (K,): what makes all totals equal and keeps their sum; 0 for a total of 0."""
    return torch.where(totals > 0, totals.sum() / (len(totals) * totals), 0.0)


def image_weights(targets: Tensor, sample_weights: Tensor, by_class: Tensor) -> Tensor:
    """(N,) float32: each image's share in the objective, 1 on average.

    The mean of 1 lets a learning rate mean the same with weights and without.

    Raises:
        DataRefused: no image has a positive weight.
    """
    weights = by_class[targets] * sample_weights
    return weights / _checked_mean(weights)


def _checked_mean(weights: Tensor) -> Tensor:
    mean = weights.mean()
    if not mean > 0:
        raise DataRefused(
            "every image of a split has weight 0, so nothing can be learned or measured there;"
            " correct the column 'weight' of data/metadata.csv, or set"
            " train.use_sample_weights: false in params.yaml"
        )
    return mean


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


def soft_cross_entropy(logits: Tensor, mass: Tensor, *, label_smoothing: float) -> Tensor:
    """As `cross_entropy`, with all that an image counts in ``mass`` (B, K) float32."""
    smooth = mass * (1.0 - label_smoothing)
    if label_smoothing:
        smooth += mass.sum(dim=1, keepdim=True) * (label_smoothing / mass.shape[1])
    return F.cross_entropy(logits.float(), smooth, reduction="none").mean()


@dataclass(frozen=True)
class Labels:
    """Those of a batch: classes (B,) and weights (B,), or where labels are soft ``mass`` (B, K)."""

    targets: Tensor
    weights: Tensor
    mass: Tensor | None
    smoothing: float

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """The mean over the batch, scalar, of logits (B, K)."""
        if self.mass is None:
            return cross_entropy(logits, self.targets, self.weights, label_smoothing=self.smoothing)
        return soft_cross_entropy(logits, self.mass, label_smoothing=self.smoothing)

    def loss(self, model: nn.Module, outputs: Outputs, pixels: Tensor) -> Tensor:
        """The mean over the batch, scalar, of what ``model`` gave in training for ``pixels``."""
        if isinstance(outputs, Tensor):
            return self.cross_entropy(outputs)
        mass = self.mass
        if mass is None:
            mass = hard_mass(self.targets, self.weights, outputs[0].shape[1])
        supervision = Supervision(pixels, mass, self.smoothing, self.cross_entropy)
        return loss_of(model, outputs, supervision)


def hard_mass(targets: Tensor, weights: Tensor, num_classes: int) -> Tensor:
    """(N, K) float32 from classes (N,) and weights (N,)."""
    classes = torch.arange(num_classes, device=targets.device)
    return (targets[:, None] == classes) * weights[:, None]


def soft_mass(probabilities: Tensor, sample_weights: Tensor, by_class: Tensor) -> Tensor:
    """(N, K) float32, each row's sum the image's share in the objective, 1 on average.

    An image counts as one of each class with its probability, so a class's weight applies to that
    part of it alone.

    Args:
        probabilities: (N, K), each row adding up to 1.
        sample_weights: (N,).
        by_class: (K,), see `soft_class_weights`.

    Raises:
        DataRefused: no image has a positive weight.
    """
    mass = probabilities * by_class * sample_weights[:, None]
    return mass / _checked_mean(mass.sum(dim=1))


def soft_class_weights(probabilities: Tensor, sample_weights: Tensor) -> Tensor:
    """As `class_weights`, the totals being those of the probabilities (N, K)."""
    return _balanced((probabilities * sample_weights[:, None]).sum(dim=0))
