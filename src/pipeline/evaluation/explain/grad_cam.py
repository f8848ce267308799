"""Grad-CAM: the last feature maps, weighted by what each does for the logit.

Selvaraju et al., Grad-CAM, 2016 (arXiv:1610.02391). The maps are found in what the network ran, so
that a block's sum is taken rather than one of its branches, a convolution may be a function, and
the order in which modules are registered does not matter.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pipeline.evaluation.explain.gradient import (
    NO_GRADIENT,
    CannotExplain,
    evaluating,
    forward,
    of_targets,
    with_respect_to,
)
from pipeline.evaluation.explain.graph import node_of, nodes_below

MAX_LINEAR = 3
"""Linear layers after the last convolution: AlexNet's and VGG's three. Where there are more, as in
a transformer or a mixer, the convolution is not what decides."""
_LINEAR = ("AddmmBackward", "MmBackward", "BmmBackward", "LinearBackward", "ScaledDotProduct")


def grad_cam(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Where the last feature maps speak for the class, (N, 1, H, W), never negative.

    Computed in the resolution of the maps and interpolated to that of the image.

    Raises:
        CannotExplain: no convolution leads to the logits, or no feature maps after the last one
            that all of the signal passes, or too much is computed after them.
    """
    with torch.enable_grad(), evaluating(model):
        maps, logits = last_feature_maps(model, images)
        gradients = with_respect_to(maps, of_targets(logits, targets))
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    found = (weights * maps.detach()).sum(dim=1, keepdim=True).relu()  # (N, 1, h, w)
    return functional.interpolate(found, images.shape[2:], mode="bilinear", align_corners=False)


def last_feature_maps(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """The feature maps (N, K, h, w) that `grad_cam` weights, and the logits.

    Call it with gradients on and within `evaluating`.
    """
    with _Maps() as seen:
        leaf, logits = forward(model, images)
    leading, image = set(nodes_below(logits)), node_of(leaf)
    if image not in leading:
        raise CannotExplain(NO_GRADIENT)
    last = next((i for i in reversed(seen.convolutions) if seen.nodes[i] in leading), None)
    if last is None:
        raise CannotExplain(
            "Grad-CAM weights the feature maps of a convolution, and on the way to the logits this "
            "network runs none whose maps have more than one place"
        )
    places = seen.tensors[last].shape[2:]
    for maps in reversed(seen.tensors[last:]):
        if maps.shape[2:] != places or (own := node_of(maps)) not in leading:
            continue
        after = nodes_below(logits, without=own)
        if image not in after:
            _require_a_head(after)
            return maps, logits
    raise CannotExplain(
        "Grad-CAM needs feature maps that all of the signal passes; after the last convolution of "
        "this network another path leads from the image to the logits"
    )


def _require_a_head(after: list[Node]) -> None:
    linear = sum(node.name().startswith(_LINEAR) for node in after)
    if linear > MAX_LINEAR:
        raise CannotExplain(
            f"Grad-CAM explains by the last convolution, and after that of this network come "
            f"{linear} linear layers or attentions (at most {MAX_LINEAR} are taken for a head)"
        )


class _Maps(TorchFunctionMode):
    """Keeps what may be feature maps: results (N, K, h, w) of more than one place."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Tensor] = []
        self.nodes: list[Node] = []
        """Where each came from when it was made; a function in place changes that later."""
        self.convolutions: list[int] = []
        """Which of them a convolution made."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if (
            isinstance(result, Tensor)
            and result.ndim == 4
            and result.shape[2] * result.shape[3] > 1
            and result.requires_grad
        ):
            if func is torch.conv2d:
                self.convolutions.append(len(self.tensors))
            self.tensors.append(result)
            self.nodes.append(node_of(result))
        return result
