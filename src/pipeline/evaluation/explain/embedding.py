"""What a network makes of an image before it decides: its embedding, and how units answer to it.

The embedding is what the last linear layer reads; near ones are images that the network takes for
alike. An ensemble's are those of its members side by side, each of length 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.data.pack import Packed
from pipeline.evaluation.explain.gradient import CannotExplain, evaluating
from pipeline.evaluation.explain.layers import channel_axis
from pipeline.evaluation.memory import at_a_time
from pipeline.vision.batches import Images
from pipeline.vision.card import ModelCard
from pipeline.vision.models import Classifier
from pipeline.vision.models.ensemble import Ensemble
from pipeline.vision.precision import autocast

BATCH = 256
"""Images at a time, of large ones fewer: a matter of memory."""


@dataclass(frozen=True, eq=False)
class Observed:
    """What a network made of some images, in their order."""

    embeddings: NDArray[np.float32]
    """(n, D), of length 1: a product of two is the cosine of their angle."""
    peaks: NDArray[np.float32] | None
    """(n, K): the largest value in the feature maps of each unit of the layer asked for."""


def observe(
    classifier: Classifier,
    card: ModelCard,
    packed: Packed,
    rows: NDArray[np.int64],
    *,
    device: torch.device,
    layer: str | None = None,
    change: Callable[[Tensor, ModelCard], Tensor] | None = None,
    batch_size: int = BATCH,
) -> Observed:
    """Embeddings of the images at ``rows`` of ``packed``, at least one.

    Args:
        classifier: on ``device``.
        card: of the classifier.
        packed: the packed data.
        rows: which of it.
        device: where to compute.
        layer: a module with feature maps, whose peaks are wanted too.
        change: what is done to images (N, C, H, W) in [0, 1] before, knowing the card.
        batch_size: images at a time, of large ones fewer; a matter of memory.

    Raises:
        CannotExplain: what the network decides by cannot be read.
    """
    images = Images(packed, rows, device=device, image_size=card.image_size)
    size = at_a_time(batch_size, card.image_size, card.image_size)
    batches = (
        images.take(positions.to(device))
        for positions in torch.split(torch.arange(len(rows)), size)
    )
    if change is not None:
        batches = (change(batch, card) for batch in batches)
    return observe_batches(classifier, card, batches, layer=layer)


def observe_batches(
    classifier: Classifier,
    card: ModelCard,
    batches: Iterable[Tensor],
    *,
    layer: str | None = None,
) -> Observed:
    """As `observe`, of batches (n, C, H, W) in [0, 1] in the network's size, on its device.

    Computed by the precision of the card's plan, as predictions are.
    """
    layout = getattr(torch, card.plan["memory_format"])
    embeddings, peaks = list[Tensor](), list[Tensor]()
    probe: _Probe | None = None
    try:
        with torch.inference_mode(), evaluating(classifier):
            for batch in batches:
                probe = probe or _Probe(classifier, batch[:1], layer)
                with autocast(batch.device, card.plan["precision"]):
                    classifier(batch.contiguous(memory_format=layout))
                embeddings.append(probe.embeddings)
                if probe.peaks is not None:
                    peaks.append(probe.peaks.float().cpu())
    finally:
        if probe is not None:
            probe.remove()
    return Observed(torch.cat(embeddings).numpy(), torch.cat(peaks).numpy() if peaks else None)


class _Probe:
    """Until it is removed, keeps what the deciding layers read and the peaks of ``layer``."""

    def __init__(self, model: nn.Module, image: Tensor, layer: str | None) -> None:
        self._read: dict[nn.Module, Tensor] = {}
        self.peaks: Tensor | None = None
        self._hooks = [
            layer.register_forward_pre_hook(self._keep_embeddings)
            for layer in deciding_layers(model, image)
        ]
        if layer is not None:
            self._axis = channel_axis(model, image, layer)
            kept = model.get_submodule(layer)
            self._hooks.append(kept.register_forward_hook(self._keep_peaks))

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

    @property
    def embeddings(self) -> Tensor:
        """(n, D) of the last batch, of length 1, on the CPU."""
        parts = [nn.functional.normalize(each.float(), dim=1) for each in self._read.values()]
        return (torch.cat(parts, dim=1) / math.sqrt(len(parts))).cpu()

    def _keep_embeddings(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        read = inputs[0]
        if read.ndim == 4:
            read = read.mean(dim=(1, 2) if isinstance(module, nn.Linear) else (2, 3))
        self._read[module] = read.flatten(1)

    def _keep_peaks(self, _module: nn.Module, _inputs: Any, maps: Tensor) -> None:
        maps = maps.movedim(self._axis, 1)
        self.peaks = maps.amax(dim=(2, 3))  # now: what comes next may work in place


def deciding_layers(model: nn.Module, image: Tensor) -> list[nn.Module]:
    """The last layer with weights on the way to the logits, by what ran on ``image``; of an
    ensemble that of each member.

    A linear layer that reads one vector of each image, or a convolution of the last feature maps,
    as SqueezeNet has.

    Raises:
        CannotExplain: neither is there.
    """
    ran: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: ran.append(module))
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    try:
        with torch.no_grad(), evaluating(model):
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    if not ran:
        raise CannotExplain(
            "this network ends in no linear layer or convolution that is a module, so what it"
            " decides by cannot be read"
        )
    net = model.net if isinstance(model, Classifier) else model
    if not isinstance(net, Ensemble):
        return [ran[-1]]
    members = [set(member.modules()) for member in net.members]
    return [next(layer for layer in reversed(ran) if layer in inside) for inside in members]
