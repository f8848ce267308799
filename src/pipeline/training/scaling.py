"""Gradients in float16: a loss scaled so that they neither vanish nor overflow.

Micikevicius et al., Mixed precision training, 2018 (arXiv:1710.03740).
"""

from __future__ import annotations

import torch
from torch import Tensor

INITIAL = 2.0**16
INTERVAL = 2000
"""Updates without an overflow after which the scale is doubled; each overflow halves it."""


class LossScale:
    """A factor for the loss that follows what the gradients allow; the host never waits.

    Attributes:
        scale: the factor, a scalar on the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), INITIAL, device=device)
        self._since = torch.zeros((), dtype=torch.int32, device=device)
        """Updates since the last change."""

    def adapt(self, found_inf: Tensor) -> None:
        """Take in whether an update was left out (1) or made (0)."""
        torch._amp_update_scale_(self.scale, self._since, found_inf, 2.0, 0.5, INTERVAL)

    def state(self) -> dict[str, Tensor]:
        """All that the next scales depend on; not copied."""
        return {"loss_scale": self.scale, "loss_scale.since": self._since}
