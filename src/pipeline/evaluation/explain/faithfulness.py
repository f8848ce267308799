"""Whether a map shows what decides: the logit falls as that is taken away, and comes with it.

Deletion and insertion (Petsiuk, Das and Saenko, RISE, 2018, arXiv:1806.07421). The places of an
image are covered, brightest first, and the probability of the class is watched; or they are
uncovered. The figures of a method mean something beside those of `REFERENCES`, and by more than one
cover: a network may take the cover itself for a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.evaluation.explain.edges import sobel_map
from pipeline.evaluation.explain.gradient import evaluating
from pipeline.evaluation.explain.methods import Explain
from pipeline.evaluation.memory import at_a_time

STEPS = 8
BATCH = 256
"""Images that are predicted at a time, of large ones fewer: a matter of memory."""


def random_map(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Noise, the same for the same number and size of images: (N, 1, H, W)."""
    del model, targets
    generator = torch.Generator().manual_seed(0)
    return torch.rand(len(images), 1, *images.shape[2:], generator=generator).to(images)


REFERENCES: dict[str, Explain] = {"random": random_map, "sobel": sobel_map}
"""Maps that know nothing of the network."""


@dataclass(frozen=True)
class Curves:
    """Of each image the probability of its class after each step, (N, steps + 1)."""

    deletion: Tensor
    """From the whole image to the covered one."""
    insertion: Tensor
    """From the covered image to the whole one."""

    def areas(self) -> tuple[Tensor, Tensor]:
        """The areas below both, (N,) each: of deletion less is better, of insertion more."""
        return _area(self.deletion), _area(self.insertion)


def _area(curve: Tensor) -> Tensor:
    return torch.trapezoid(curve, dx=1 / (curve.shape[1] - 1))


def deletion_and_insertion(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    cover: Tensor,
    *,
    steps: int = STEPS,
    batch_size: int = BATCH,
) -> Curves:
    """Cover, and uncover, the places of ``images`` in the order of ``maps``, brightest first.

    Args:
        model: takes ``images``, returns logits (N, K).
        images: (N, C, H, W) in [0, 1].
        targets: (N,).
        maps: (N, 1, H, W); only their order counts, and equal places are taken in the image's.
        cover: what takes the places of ``images``, in their shape; see `COVERS`.
        steps: equal shares of the places from nothing to all.
        batch_size: images that are predicted at a time, of large ones fewer.
    """
    places = maps.flatten(1)
    order = places.argsort(dim=1, descending=True, stable=True)
    ranks = torch.empty_like(order)
    counted = torch.arange(places.shape[1], device=order.device).expand_as(order)
    ranks.scatter_(1, order, counted)  # 0 is the brightest
    limits = torch.linspace(0, places.shape[1], steps + 1, device=order.device).round()
    chosen = (ranks[None] < limits[:, None, None]).view(steps + 1, *maps.shape)  # (S + 1, N, 1, …)
    # The ends of both curves are the same two images.
    covered = torch.where(chosen, cover, images)
    uncovered = torch.where(chosen[1:-1], images, cover)
    both = _probabilities(model, torch.cat([covered, uncovered]), targets, batch_size)
    deletion, between = both[:, : steps + 1], both[:, steps + 1 :]
    return Curves(deletion, torch.cat([deletion[:, -1:], between, deletion[:, :1]], dim=1))


def _probabilities(model: nn.Module, images: Tensor, targets: Tensor, batch_size: int) -> Tensor:
    """Of ``images`` (S, N, C, H, W) those of ``targets``, (N, S)."""
    steps = len(images)
    size = at_a_time(batch_size, *images.shape[3:])
    with torch.no_grad(), evaluating(model):
        logits = torch.cat([model(part) for part in torch.split(images.flatten(0, 1), size)])
    found = logits.float().softmax(dim=1).gather(1, targets.repeat(steps)[:, None])
    return found.view(steps, -1).T
