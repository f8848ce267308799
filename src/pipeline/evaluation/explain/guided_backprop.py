"""Guided backpropagation: the gradient, of which rectifiers let through only what is positive.

Springenberg et al., Striving for Simplicity, 2014 (arXiv:1412.6806), 3.4. It draws the edges that a
network sees and hardly depends on its later layers (Adebayo et al., 2018): do not read it as the
reason for a decision.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.autograd.graph import Node

from pipeline.evaluation.explain.gradient import magnitude
from pipeline.evaluation.explain.rectifiers import rectified_gradient


def guided_backprop(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """The guided gradient's size, of the channels the largest: (N, 1, H, W), never negative.

    Raises:
        CannotExplain: the network has no rectifiers, or other functions beside them.
    """
    guided = rectified_gradient(model, images, targets, _guide, "guided backpropagation")
    return magnitude(guided)


def _guide(rectifier: Node) -> object:
    """Its own gradient holds back where its input was negative; this, what comes in negative."""
    return rectifier.register_prehook(lambda gradients: (gradients[0].clamp(min=0),))
