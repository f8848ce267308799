"""Whether a map depends on what the network learned: its weights are lost, layer by layer.

The cascading randomisation of Adebayo et al., Sanity Checks for Saliency Maps, 2018
(arXiv:1810.03292), from the logits down. A map that stays as it was cannot explain what was
learned. Maps that are multiplied by the image, such as integrated gradients, stay like it in part.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from pipeline.evaluation.explain.gradient import evaluating
from pipeline.evaluation.explain.methods import Explain

SHARES = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Lost:
    """How like the trained network's maps are when a share of its layers is random."""

    share: float
    """Of the layers that have weights, counted from the logits."""
    similarity: float
    """The mean over the images of the rank correlation of the maps' sizes (Spearman)."""


def cascade(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    explain: Explain,
    *,
    seed: int = 0,
    shares: tuple[float, ...] = SHARES,
) -> list[Lost]:
    """Compare the maps of ``explain`` with those of ever more random copies of ``model``.

    A layer is made random by shuffling the values of each of its weights: their distribution stays.

    Args:
        model: is not changed.
        images: (N, C, H, W) in [0, 1].
        targets: (N,).
        explain: a method of `METHODS`, or what is called like one.
        seed: of the shuffling.
        shares: ascending, each above 0 and at most 1.

    Raises:
        CannotExplain: the method does not apply to the network.
    """
    expected = explain(model, images, targets)
    other = copy.deepcopy(model)
    layers = layers_from_the_logits(other, images[:1])
    generator = torch.Generator().manual_seed(seed)
    losses, done = [], 0
    for share in shares:
        wanted = max(1, round(share * len(layers)))
        for layer in layers[done:wanted]:
            _shuffle(layer, generator)
        done = max(done, wanted)
        found = explain(other, images, targets)
        losses.append(Lost(share, float(rank_correlation(expected, found).mean())))
    return losses


def layers_from_the_logits(model: nn.Module, image: Tensor) -> list[nn.Module]:
    """The modules with weights of their own that run on ``image`` (1, C, H, W), the last first."""
    ran: dict[nn.Module, None] = {}
    hooks = [
        module.register_forward_pre_hook(lambda module, _: ran.update({module: None}))
        for module in model.modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    try:
        with torch.no_grad(), evaluating(model):
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return list(ran)[::-1]


def _shuffle(layer: nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for weights in layer.parameters(recurse=False):
            order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
            weights.copy_(weights.flatten()[order].view(weights.shape))


def rank_correlation(maps: Tensor, others: Tensor) -> NDArray[np.float64]:
    """Spearman's, of the sizes of both maps of an image, (N,); 0 where one of them is constant."""
    first, second = (_centred_ranks(each) for each in (maps, others))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    products = (first * second).sum(axis=1)
    return np.divide(products, lengths, out=np.zeros(len(products)), where=lengths > 0)


def _centred_ranks(maps: Tensor) -> NDArray[np.float64]:
    sizes = maps.detach().abs().flatten(1).cpu().numpy()
    ranks = np.asarray(rankdata(sizes, axis=1), dtype=np.float64)
    return ranks - ranks.mean(axis=1, keepdims=True)
