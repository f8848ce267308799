"""AugMix: several chains of changes, mixed with each other and with the image.

Hendrycks et al., AugMix: A simple data processing method to improve robustness and uncertainty,
2020 (arXiv:1912.02781).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.vision.image_ops import per_image, warp
from pipeline.vision.policy import Augmentation
from pipeline.vision.settings import setting

OPERATIONS = (
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "solarize",
    "posterize",
    "autocontrast",
)
"""The paper's, but for its histogram equalisation, which has no form for a whole batch."""

LONGEST = 3
"""Operations in a chain at most."""

_NUMBERS = 2 + 3 * LONGEST  # of a chain: its weight, its length; of each operation three
_EXACT = 2.0**20  # steps that no eye and no network can tell from none


@dataclass(frozen=True)
class AugMix(Augmentation):
    """``chains`` of one to three operations each, up to ``severity`` of 10; the paper has 3 and 3.

    The weights of the chains are drawn from a Dirichlet distribution and that of the image itself
    from Beta(1, 1). Of a chain, the moves are made first and as one warp, then the changes of tone:
    the order in which they were drawn does not count.
    """

    chains: float = setting(1, 8, default=None, whole=True)
    severity: float = setting(0.1, 10, default=None)

    @property
    def draws(self) -> int:
        return 1 + int(self.chains) * _NUMBERS

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        own = u[:, 0]
        per_chain = u[:, 1:].view(len(u), -1, _NUMBERS)
        weights = (-torch.log1p(-per_chain[:, :, 0])).clamp(min=1e-7)  # exponential
        weights = (1.0 - own)[:, None] * weights / weights.sum(dim=1, keepdim=True)
        mixed = images * per_image(own)
        for numbers, weight in zip(per_chain.unbind(dim=1), weights.unbind(dim=1), strict=True):
            signed, levels = self.levels(numbers[:, 1:])
            changed = change_tone(warp(images, moving(signed)), levels)
            mixed.addcmul_(changed, per_image(weight))
        return mixed

    def levels(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """How far a chain takes each of `OPERATIONS`, from 0 to 1 at the highest severity.

        Args:
            u: (N, 1 + 3 * LONGEST): the length, and for each place in the chain which, how far and
                which way.

        Returns:
            (N, operations) with a sign, the sum where an operation was drawn again; and (N,
            operations) without one, the largest.
        """
        which, level, way = u[:, 1:].view(-1, 3, LONGEST).unbind(dim=1)  # (N, LONGEST) each
        place = torch.arange(LONGEST, device=u.device)
        level = level * (self.severity / 10.0) * (place <= (u[:, :1] * LONGEST).long())
        operation = torch.arange(len(OPERATIONS), device=u.device)
        drawn = (which * len(OPERATIONS)).long()[:, :, None] == operation
        sign = 1.0 - 2.0 * (way < 0.5).float()
        taken = drawn * level[:, :, None]
        return (taken * sign[:, :, None]).sum(dim=1), taken.amax(dim=1)


def moving(levels: Tensor) -> Tensor:
    """(N, operations) with signs -> (N, 3, 3) for `warp`.

    At level 1 it turns by 30 degrees, shears by 0.3 and moves by a third of the side.
    """
    turn, shear_x, shear_y, right, down = levels[:, :5].unbind(dim=1)
    angle = turn * math.radians(30.0)
    cos, sin, a, b = torch.cos(angle), torch.sin(angle), 0.3 * shear_x, 0.3 * shear_y
    zero, one = torch.zeros_like(turn), torch.ones_like(turn)
    entries = [
        *(cos * (1.0 + a * b) + sin * b, cos * a + sin, 2.0 / 3.0 * right),
        *(cos * b - sin * (1.0 + a * b), cos - sin * a, 2.0 / 3.0 * down),
        *(zero, zero, one),
    ]
    return torch.stack(entries, dim=1).view(-1, 3, 3)


def change_tone(images: Tensor, levels: Tensor) -> Tensor:
    """Solarise, posterise and stretch ``images``, in place, by (N, operations); 0 leaves them.

    At level 1 every value is inverted, 1 bit is left; any stretching is to the whole range.
    """
    solarize, posterize, stretch = levels[:, 5:].unbind(dim=1)
    threshold = torch.where(solarize > 0.0, 1.0 - solarize, 2.0)
    inverted = torch.ge(images, per_image(threshold), out=torch.empty_like(images))
    images.addcmul_(inverted, images, value=-2.0).add_(inverted)  # 1 - x where it is 1
    bits = (4.0 - (4.0 * posterize).floor()).clamp(min=1.0)
    steps = per_image(torch.where(posterize > 0.0, torch.exp2(bits) * (255.0 / 256.0), _EXACT))
    images.mul_(steps).floor_().div_(steps)
    low, high = (limit[:, :, None, None] for limit in (images.amin((2, 3)), images.amax((2, 3))))
    wanted = per_image(stretch > 0.0) & (high > low)
    scale = torch.where(wanted, 1.0 / (high - low), 1.0)
    return images.mul_(scale).sub_(torch.where(wanted, low * scale, 0.0))
