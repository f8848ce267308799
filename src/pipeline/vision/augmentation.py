"""Random augmentations of batches, on the device, as part of the training step.

A new one is one class and one entry in `AUGMENTATIONS`; `vision.policy` says what it needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import ConfigurationError, did_you_mean
from pipeline.vision.augmix import AugMix
from pipeline.vision.geometry import Affine, Crop, Flip
from pipeline.vision.image_ops import memory_format_of, outer, per_image, within
from pipeline.vision.mixing import MIXINGS, CutMix, Mixing, Mixup
from pipeline.vision.policies import POLICIES
from pipeline.vision.policy import Augmentation, Policy, Recolouring
from pipeline.vision.randomness import noise
from pipeline.vision.settings import Part, build, has_effect, setting

__all__ = ["AUGMENTATIONS", "Policy", "build_policy"]

_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_TO_RGB = np.linalg.inv(_TO_YIQ)
_LUMA = _TO_RGB @ np.diag([1.0, 0.0, 0.0]) @ _TO_YIQ
_CHROMA = _TO_RGB @ np.diag([0.0, 1.0, 1.0]) @ _TO_YIQ
_TURNED = _TO_RGB @ np.array([[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]) @ _TO_YIQ


@dataclass(frozen=True)
class Colour(Recolouring):
    """Brightness, contrast, saturation and hue as one matrix of the channels per image.

    Up to ``brightness`` is added; differences from mid-grey grow or shrink by up to the factor
    1 + ``contrast``, differences from the pixel's own grey by 1 + ``saturation``; ``hue`` is the
    largest turn of the colour circle, 0.5 being half of it. Grey images have no saturation or hue.
    """

    draws = 4
    brightness: float = setting(0, 1)
    contrast: float = setting(0, 4)
    saturation: float = setting(0, 4)
    hue: float = setting(0, 0.5)

    def matrix(self, u: Tensor, channels: int) -> Tensor:
        brighter, contrast, saturation, hue = (2.0 * u - 1.0).unbind(dim=1)
        factor = torch.exp(contrast * math.log1p(self.contrast))
        # (x - 0.5) * factor + 0.5 + added. A fixed grey, not the image's mean: a sum over pixels
        # may round differently in another batch.
        added = 0.5 - 0.5 * factor + self.brightness * brighter
        if channels == 1:
            return torch.stack([factor, added], dim=1)[:, None]
        spread = torch.exp(saturation * math.log1p(self.saturation))
        mix = _chroma_matrix(spread, hue * 2.0 * math.pi * self.hue) * factor[:, None, None]
        return torch.cat([mix, added[:, None, None].expand(-1, channels, 1)], dim=2)


@dataclass(frozen=True)
class Grey(Recolouring):
    """Take the colour away, with this probability (Chen et al., SimCLR, 2020, arXiv:2002.05709)."""

    draws = 1
    probability: float = setting(0, 1, default=None)

    def matrix(self, u: Tensor, channels: int) -> Tensor:
        whole = torch.eye(channels, channels + 1, device=u.device)
        if channels == 1:
            return whole.expand(len(u), -1, -1)
        nothing = torch.zeros_like(u)
        luma = torch.cat(
            [_chroma_matrix(nothing[:, 0], nothing[:, 0]), nothing.expand(-1, 3)[:, :, None]], 2
        )
        return torch.where((u < self.probability)[:, :, None], luma, whole)


def _chroma_matrix(spread: Tensor, angle: Tensor) -> Tensor:
    """(N, 3, 3) that scales and turns colour about the grey axis and keeps luma (ITU-R BT.601).

    Made of numbers known on the host, so that a GPU has nothing to wait for.
    """
    along, across = spread * torch.cos(angle), spread * torch.sin(angle)  # (N,)
    entries = [
        along * float(_CHROMA[i, j]) + across * float(_TURNED[i, j]) + float(_LUMA[i, j])
        for i in range(3)
        for j in range(3)
    ]
    return torch.stack(entries, dim=1).view(-1, 3, 3)


@dataclass(frozen=True)
class Blur(Augmentation):
    """A Gaussian blur of up to ``sigma`` pixels."""

    draws = 1
    sigma: float = setting(0, 8, default=None)

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        sigma = (self.sigma * u).clamp(min=1e-3)  # (N, 1)
        down, across = (_blurring(sigma, side)[:, None] for side in images.shape[2:])
        return down @ images @ across.mT


def _blurring(sigma: Tensor, side: int) -> Tensor:
    """(N, 1) -> (N, side, side): a line of pixels times this is blurred, mirrored at its ends."""
    distance = torch.arange(2 * side, device=sigma.device)
    # Zero beyond 4 sigma: numbers too small to be normal are a hundred times slower on a CPU.
    weight = torch.exp(-0.5 * (distance / sigma) ** 2) * (distance <= 4.0 * sigma)
    pixel = torch.arange(side, device=sigma.device)
    difference, total = pixel[:, None] - pixel, pixel[:, None] + pixel
    weights = weight.index_select(1, difference.abs().view(-1))
    for mirrored in (total + 1, 2 * side - 1 - total):
        weights += weight.index_select(1, mirrored.view(-1))
    weights = weights.view(-1, side, side)
    return weights / weights.sum(dim=2, keepdim=True)


@dataclass(frozen=True)
class Noise(Augmentation):
    """Independent noise, nearly Gaussian, of a standard deviation of up to ``sigma``."""

    draws = 2
    sigma: float = setting(0, 1, default=None)

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        unit = noise(u[:, 1], tuple(images.shape[1:]))
        return torch.addcmul(images, unit, per_image(self.sigma * u[:, 0]))


@dataclass(frozen=True)
class Erase(Augmentation):
    """Paint over a rectangle of up to ``area`` of the image, in some grey.

    Random erasing, Zhong et al., 2017 (arXiv:1708.04896).
    """

    draws = 6
    needs_planes = False
    probability: float = setting(0, 1, default=None)
    area: float = setting(0, 1, default=None)

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        chance, area, aspect, x, y, grey = u.unbind(dim=1)
        ratio = torch.exp((2.0 * aspect - 1.0) * math.log(2.0) / 2.0)
        side = torch.sqrt(self.area * area)
        rows = within((side / ratio).clamp(max=1.0), y, images.shape[2])
        rows *= (chance < self.probability)[:, None]
        columns = within((side * ratio).clamp(max=1.0), x, images.shape[3])
        # Exact, since the weights are 0 and 1, and several times faster than `torch.where`.
        covered = outer(rows, columns).expand_as(images)
        covered = covered.contiguous(memory_format=memory_format_of(images))
        return torch.lerp(images, per_image(grey), covered)


def build_policy(policy: str | Mapping[str, Mapping[str, float]], *, where: str) -> Policy:
    """The policy at ``where`` in ``params.yaml``: a name of `POLICIES`, or what one consists of.

    Augmentations are applied in the order of `AUGMENTATIONS`, whatever their order in the file. An
    empty policy changes nothing.

    Raises:
        ConfigurationError: an unknown policy, augmentation or setting, or a value outside its
            range.
    """
    where = f"params.yaml: {where}"
    if isinstance(policy, str):
        if policy not in POLICIES:
            raise ConfigurationError(
                f"{where}: {policy!r} is not a policy{did_you_mean(policy, POLICIES) or ';'}"
                f" allowed: {', '.join(POLICIES)}, or a section of augmentations"
            )
        policy = POLICIES[policy]
    for name in policy:
        if name not in AUGMENTATIONS and name not in MIXINGS:
            known = [*AUGMENTATIONS, *MIXINGS]
            raise ConfigurationError(
                f"{where}.{name} is not an augmentation{did_you_mean(name, known) or ';'}"
                f" allowed: {', '.join(known)}"
            )
    parts = [
        (name, part)
        for name, kind in AUGMENTATIONS.items()
        if (part := _part(kind, policy, name, where)) is not None
    ]
    mixup, cutmix = _part(Mixup, policy, "mixup", where), _part(CutMix, policy, "cutmix", where)
    mixing = None if mixup is None and cutmix is None else Mixing(mixup, cutmix, where=where)
    return Policy(parts, mixing)


def _part(
    kind: type[Part], policy: Mapping[str, Mapping[str, float]], name: str, where: str
) -> Part | None:
    """What ``policy`` says of ``name``; ``None`` if it changes nothing."""
    if name not in policy:
        return None
    part = build(kind, policy[name], where=f"{where}.{name}")
    return part if has_effect(part) else None


AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "flip": Flip,
    "crop": Crop,
    "affine": Affine,
    "augmix": AugMix,
    "colour": Colour,
    "grey": Grey,
    "blur": Blur,
    "noise": Noise,
    "erase": Erase,
}
"""Applied in this order: first pixels are moved, then changed, last covered."""
