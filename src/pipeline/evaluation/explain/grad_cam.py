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
    in_batches,
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
        last = _LastMaps(model, images[:1])

        def of_batch(images: Tensor, targets: Tensor) -> Tensor:
            maps, logits = last.of(images)
            gradients = with_respect_to(maps, of_targets(logits, targets))
            weights = gradients.mean(dim=(2, 3), keepdim=True)
            return (weights * maps.detach()).sum(dim=1, keepdim=True).relu()

        found = in_batches(of_batch, images, targets)  # (N, 1, h, w)
    return functional.interpolate(found, images.shape[2:], mode="bilinear", align_corners=False)


class _LastMaps:
    """The feature maps that `grad_cam` weights, found in what the network runs for one image.

    Use it with gradients on and within `evaluating`.
    """

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        ran = _Recorded()
        leaf, logits = forward(model, image, ran)
        self.model = model
        self.place = _place_of_maps(ran, node_of(leaf), logits)
        self.steps = ran.steps

    def of(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The maps of ``images``, (N, K, h, w), and the logits.

        What leads to the maps has no gradients recorded.
        """
        pixels = images.detach()
        with torch.no_grad(), _Cut(self.place) as run:
            logits = self.model(pixels)
        if run.maps is not None and logits.requires_grad and run.steps == self.steps:
            return run.maps, logits
        # It runs otherwise where no gradients are recorded.
        whole = _Recorded()
        leaf, logits = forward(self.model, images, whole)
        return whole.tensors[_place_of_maps(whole, node_of(leaf), logits)], logits


def _place_of_maps(ran: _Recorded, image: Node, logits: Tensor) -> int:
    """Which of the maps that ``ran`` are the last that all of the signal passes."""
    leading = set(nodes_below(logits))
    if image not in leading:
        raise CannotExplain(NO_GRADIENT)
    convolutions = (i for i, step in enumerate(ran.steps) if step[0] is torch.conv2d)
    last = max((i for i in convolutions if ran.nodes[i] in leading), default=None)
    if last is None:
        raise CannotExplain(
            "Grad-CAM weights the feature maps of a convolution, and on the way to the logits this "
            "network runs none whose maps have more than one place"
        )
    places = ran.tensors[last].shape[2:]
    for i in reversed(range(last, len(ran.tensors))):
        maps = ran.tensors[i]
        if maps.shape[2:] != places or not maps.requires_grad:
            continue
        if (own := node_of(maps)) not in leading:
            continue
        after = nodes_below(logits, without=own)
        if image not in after:
            _require_a_head(after)
            return i
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


class _Recorded(TorchFunctionMode):
    """Keeps what may be feature maps: (N, K, h, w) of more than one place."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, torch.Size]] = []
        """The function that made each, and its shape without the first dimension."""
        self.tensors: list[Tensor] = []
        self.nodes: list[Node | None] = []
        """Where each came from when it was made; a function in place changes that later."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        maps = _changed(func, args, result)
        if maps is not None:
            self.steps.append((func, maps.shape[1:]))
            self.tensors.append(maps)
            self.nodes.append(node_of(maps) if maps.requires_grad else None)
        return result


class _Cut(TorchFunctionMode):
    """Lets gradients begin at the maps of one place among those that are made."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place
        self.maps: Tensor | None = None
        self.steps: list[tuple[Any, torch.Size]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        maps = _changed(func, args, result)
        if maps is not None:
            self.steps.append((func, maps.shape[1:]))
            if len(self.steps) == self.place + 1:
                torch.set_grad_enabled(True)
                # Itself and no copy: after a function in place the network may go on with either.
                self.maps = maps.requires_grad_()
        return result


def _changed(func: Any, args: Any, result: Any) -> Tensor | None:
    """What a call made or wrote to, if it may be feature maps."""
    made = args[0] if func is Tensor.__setitem__ else result
    maps = isinstance(made, Tensor) and made.ndim == 4 and made.is_floating_point()
    return made if maps and made.shape[2] * made.shape[3] > 1 else None
