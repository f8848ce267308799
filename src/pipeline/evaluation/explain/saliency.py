"""Saliency: how much a small change of each pixel changes the logit.

Simonyan, Vedaldi and Zisserman, Deep Inside Convolutional Networks, 2013 (arXiv:1312.6034), 3.
"""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.evaluation.explain.gradient import gradient, magnitude


def saliency(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """The absolute gradient, of the channels the largest: (N, 1, H, W), never negative.

    Raises:
        CannotExplain: the network has no gradient.
    """
    return magnitude(gradient(model, images, targets))
