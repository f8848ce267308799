"""Deconvnet: the way back of a signal, rectified as on the way there.

Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2013 (arXiv:1311.2901).
Apart from the rectifiers its way back is the gradient's: transposed convolutions, and pooling
returned to the places where the largest values were.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.autograd.graph import Node

from pipeline.evaluation.explain.gradient import magnitude
from pipeline.evaluation.explain.rectifiers import rectified_gradient


def deconvnet(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """The size of what comes back, of the channels the largest: (N, 1, H, W), never negative.

    Raises:
        CannotExplain: the network has no rectifiers, or other functions beside them.
    """
    return magnitude(rectified_gradient(model, images, targets, _rectify, "deconvnet"))


def _rectify(rectifier: Node) -> object:
    """What comes in counts alone, whatever the rectifier's input was."""
    return rectifier.register_hook(lambda _, gradients: (gradients[0].clamp(min=0),))
