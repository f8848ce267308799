"""Whether a map depends on what the network learned: its weights are lost, layer by layer.

The cascading randomisation of Adebayo et al., Sanity Checks for Saliency Maps, 2018
(arXiv:1810.03292), from the logits down. A map that stays as it was cannot explain what was
learned. Maps that are multiplied by the image, such as integrated gradients, stay like it in part.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

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
    weights = dict(other.named_parameters())
    generator = torch.Generator().manual_seed(seed)
    losses, done = [], 0
    for share in shares:
        wanted = max(1, round(share * len(layers)))
        for layer in layers[done:wanted]:
            _shuffle([weights[name] for name in layer], generator)
        done = max(done, wanted)
        found = explain(other, images, targets)
        losses.append(Lost(share, float(rank_correlation(expected, found).mean())))
    return losses


def layers_from_the_logits(model: nn.Module, image: Tensor) -> list[tuple[str, ...]]:
    """The names of the parameters that ``image`` (1, C, H, W) meets, those it meets last first.

    Together are those of one module that are used one after the other. What counts is where they
    are used: a module may have its parameters used late, or by others, and run early or never.
    """
    order = {name: place for place, (name, _) in enumerate(model.named_parameters())}
    with torch.no_grad(), evaluating(model), _Uses(model, image) as uses:
        model(image)
    layers = groupby(uses.names, lambda name: name.rpartition(".")[0])
    return [tuple(sorted(names, key=order.__getitem__)) for _, names in layers][::-1]


class _Uses(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Names parameters, or what was made of them, in the order in which the image meets them."""

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: dict[str, None] = {}
        # By the tensors themselves: two that are equal are still two.
        self._seen: Any = WeakIdKeyDictionary({image: True})
        self._made_of: Any = WeakIdKeyDictionary(
            {parameter: (name,) for name, parameter in model.named_parameters()}
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        result = func(*args, **(kwargs or {}))
        results = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        names = [name for each in inputs for name in self._made_of.get(each, ())]
        if any(each in self._seen for each in inputs):
            self.names.update(dict.fromkeys(names))
            self._seen.update(dict.fromkeys(results, True))
        elif names:
            self._made_of.update(dict.fromkeys(results, tuple(names)))
        return result


def _shuffle(weights: Sequence[Tensor], generator: torch.Generator) -> None:
    with torch.no_grad():
        for each in weights:
            order = torch.randperm(each.numel(), generator=generator).to(each.device)
            each.copy_(each.flatten()[order].view(each.shape))


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
