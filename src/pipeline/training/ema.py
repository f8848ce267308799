"""The moving average of a network's weights, which is often better than any of them.

Polyak & Juditsky 1992; as a moving average: Szegedy et al. 2016 (arXiv:1512.00567).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Average:
    """A copy of a network whose weights and batch-norm statistics trail behind its own.

    Attributes:
        model: the copy.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.model, self._decay = copy.deepcopy(model), decay
        pairs = [
            *zip(self.model.parameters(), model.parameters(), strict=True),
            *zip(self.model.buffers(), model.buffers(), strict=True),
        ]
        moving = [pair for pair in pairs if pair[1].is_floating_point()]
        self._trailing: list[Tensor] = [trailing for trailing, _ in moving]
        self._own: list[Tensor] = [own for _, own in moving]
        # Counts, such as how many batches a norm has seen.
        self._counts = [pair for pair in pairs if not pair[1].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the network after its update number ``step``, from 0.

        Early on the decay is (1 + step) / (10 + step) where that is smaller: the average forgets
        the untrained network.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._trailing, self._own, 1.0 - decay)
        for trailing, own in self._counts:
            trailing.copy_(own)
