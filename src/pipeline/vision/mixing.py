"""Mixing each image of a batch with another one, and its label as much as its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pipeline.errors import ConfigurationError
from pipeline.vision.image_ops import memory_format_of, outer, per_image
from pipeline.vision.randomness import (
    OnDevices,
    beta_quantiles,
    interpolate,
    streams,
    uniform,
)
from pipeline.vision.settings import setting

_STREAMS = OnDevices(streams([("mixing", 1), ("mixup", 1), ("cutmix", 3)]))


@dataclass(frozen=True)
class Mixup:
    """Lay two images over each other, with a share drawn from Beta(``alpha``, ``alpha``).

    Zhang et al., mixup: Beyond empirical risk minimization, 2018 (arXiv:1710.09412).
    """

    alpha: float = setting(0.01, 64, default=None)
    probability: float = setting(0, 1, default=None)

    def partners_weight(self, u: Tensor) -> Tensor:
        """(N, 1), uniform in [0, 1) -> (N,) the other image's share."""
        return interpolate(self._quantiles.on(u.device), u[:, 0])

    @cached_property
    def _quantiles(self) -> OnDevices:
        return OnDevices(beta_quantiles(self.alpha))


@dataclass(frozen=True)
class CutMix:
    """Paste a rectangle of another image over the same place.

    Its share of the area is drawn from Beta(``alpha``, ``alpha``), its centre anywhere in the
    image; what reaches beyond the border is cut off, and the labels count what is left.

    Yun et al., CutMix, 2019 (arXiv:1905.04899).
    """

    alpha: float = setting(0.01, 64, default=None)
    probability: float = setting(0, 1, default=None)

    def partners_pixels(self, u: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """(N, 3), uniform in [0, 1) -> which pixels are the other image's, as a cross product.

        Returns:
            (N, height) of the rows and (N, width) of the columns, 1.0 or 0.0.
        """
        side = interpolate(self._quantiles.on(u.device), u[:, 0]).sqrt()
        rows, columns = (_stretch(side, u[:, i], length) for i, length in ((1, height), (2, width)))
        return rows, columns

    @cached_property
    def _quantiles(self) -> OnDevices:
        return OnDevices(beta_quantiles(self.alpha))


def _stretch(share: Tensor, centre: Tensor, length: int) -> Tensor:
    """(N, length) whether a pixel is within half of ``share`` of the length of a ``centre``."""
    half = (0.5 * share * length).floor()[:, None]
    middle = (centre * length).floor()[:, None]
    pixel = torch.arange(length, device=share.device)
    return ((pixel >= middle - half) & (pixel < middle + half)).float()


class Mixing:
    """The part of a policy that needs two images; at most one kind of mixing to an image."""

    def __init__(self, mixup: Mixup | None, cutmix: CutMix | None, *, where: str) -> None:
        """``where`` in ``params.yaml`` they stand.

        Raises:
            ConfigurationError: the probabilities add up to more than 1.
        """
        total = sum(part.probability for part in (mixup, cutmix) if part is not None)
        if total > 1.0 + 1e-6:
            raise ConfigurationError(
                f"{where}: the probabilities of mixup and cutmix add up to {total:g}, expected at"
                " most 1: an image is mixed in one way"
            )
        self.mixup, self.cutmix = mixup, cutmix

    def __call__(
        self, images: Tensor, keys: Tensor, partners: Tensor, *, seed: int, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Mixed copies of ``images``; these stay as they are.

        Whether, how and how much an image is mixed follows from (seed, epoch, its own key); with
        which, from ``partners``. Call it after the policy's other parts.

        Args:
            images: (N, C, H, W), floating point.
            keys: (N,) ``int64``, on the same device, as for `Policy`.
            partners: (N,) ``int64``, on the same device: positions in the batch, see `neighbours`.
            seed: the training's.
            epoch: which pass over the images it is.

        Returns:
            (N, C, H, W) of the dtype and memory format of ``images``, and (N,) ``float32``: the
            weight of the image's own label. The label of its partner has the rest.
        """
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            u = uniform(keys, _STREAMS.on(keys.device), seed=seed, epoch=epoch)
            weight, share = self._weights(u, images.shape[2], images.shape[3])
            # lerp is exact where the weight is 0 or 1.
            others = images.permute(0, 2, 3, 1)[partners].permute(0, 3, 1, 2)
            mixed = torch.lerp(images.float(), others.float(), weight).to(images.dtype)
            return mixed.contiguous(memory_format=memory_format_of(images)), share

    def _weights(self, u: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """The partner's weight in each pixel, (N, 1, H or 1, W or 1), and the own label's, (N,)."""
        chance = u[:, 0]
        weight = torch.zeros_like(chance)
        if self.mixup is not None:
            wanted = chance < self.mixup.probability
            weight = torch.where(wanted, self.mixup.partners_weight(u[:, 1:2]), weight)
        if self.cutmix is None:
            return per_image(weight), 1.0 - weight
        # From the other end of the same number: neither changes what the other does.
        wanted = chance >= 1.0 - self.cutmix.probability
        rows, columns = self.cutmix.partners_pixels(u[:, 2:5], height, width)
        rows *= wanted[:, None]
        area = rows.sum(dim=1) * columns.sum(dim=1) / (height * width)
        return outer(rows, columns).add_(per_image(weight)), 1.0 - weight - area


def neighbours(count: int, device: torch.device | str) -> Tensor:
    """Partners for a batch: the first and the second image, the third and the fourth, and so on.

    (count,) ``int64``; a last one that is left over has itself. Pairs follow from the epoch's order
    alone, and a part of a batch that begins at an even position and has an even length has them
    within itself.
    """
    return (torch.arange(count, device=device) ^ 1).clamp_(max=count - 1)


MIXINGS: dict[str, type[Mixup | CutMix]] = {"mixup": Mixup, "cutmix": CutMix}
