"""Random augmentations of batches, on the device, as part of the training step.

A new one is one class here and one entry in `AUGMENTATIONS`; `vision.policy` says what it needs.
"""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import ConfigurationError, did_you_mean
from pipeline.vision.image_ops import chroma_matrix, per_image, weighted_sum, within
from pipeline.vision.policy import Augmentation, Geometry, Policy, setting
from pipeline.vision.randomness import noise

__all__ = ["AUGMENTATIONS", "Policy", "build_policy"]


@dataclass(frozen=True)
class Flip(Geometry):
    """Mirror left and right, top and bottom, with these probabilities."""

    draws = 2
    horizontal: float = setting(0, 1)
    vertical: float = setting(0, 1)

    def matrix(self, u: Tensor) -> Tensor:
        x, y = (1.0 - 2.0 * mirrored.float() for mirrored in self._mirrored(u))
        return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        horizontal, vertical = self._mirrored(u)
        y, x = (torch.arange(side, device=u.device) for side in images.shape[2:])
        y = torch.where(vertical[:, None], y.flip(0), y)  # (N, H)
        x = torch.where(horizontal[:, None], x.flip(0), x)  # (N, W)
        image = torch.arange(len(images), device=u.device)
        # Whole pixels in one gather: several times faster than mirroring and choosing.
        pixels = images.permute(0, 2, 3, 1)[image[:, None, None], y[:, :, None], x[:, None, :]]
        return pixels.permute(0, 3, 1, 2)

    def _mirrored(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return u[:, 0] < self.horizontal, u[:, 1] < self.vertical


@dataclass(frozen=True)
class Affine(Geometry):
    """Turn, move, scale and shear, each uniformly up to its limit in both directions.

    ``rotate`` and ``shear`` are degrees, ``shift`` is a share of the side, and ``scale`` 0.1 lets
    an object be up to 1.1 times larger or smaller.
    """

    draws = 5
    rotate: float = setting(0, 180)
    shift: float = setting(0, 1)
    scale: float = setting(0, 4)
    shear: float = setting(0, 60)

    def matrix(self, u: Tensor) -> Tensor:
        turn, right, down, size, slant = (2.0 * u - 1.0).unbind(dim=1)
        angle = turn * math.radians(self.rotate)
        tangent = torch.tan(slant * math.radians(self.shear))
        shrink = torch.exp(-size * math.log1p(self.scale))
        cos, sin = torch.cos(angle) * shrink, torch.sin(angle) * shrink
        zero, one = torch.zeros_like(turn), torch.ones_like(turn)
        # Inverse of "shear, scale, turn, move": the result's points are looked up in the image.
        rows = [
            [cos + tangent * sin, sin - tangent * cos, zero],
            [-sin, cos, zero],
            [zero, zero, one],
        ]
        linear = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
        move = torch.eye(3, device=u.device).repeat(len(u), 1, 1)
        move[:, 0, 2] = -2.0 * self.shift * right
        move[:, 1, 2] = -2.0 * self.shift * down
        return linear @ move


@dataclass(frozen=True)
class Colour(Augmentation):
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

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        brighter, contrast, saturation, hue = (2.0 * u - 1.0).unbind(dim=1)
        factor = torch.exp(contrast * math.log1p(self.contrast))
        # (x - 0.5) * factor + 0.5 + added. A fixed grey, not the image's mean: a sum over pixels
        # may round differently in another batch.
        added = 0.5 - 0.5 * factor + self.brightness * brighter
        if images.shape[1] == 3 and (self.saturation or self.hue):
            spread = torch.exp(saturation * math.log1p(self.saturation))
            mix = chroma_matrix(spread, hue * 2.0 * math.pi * self.hue) * factor[:, None, None]
            red, green, blue = (images[:, i : i + 1] for i in range(3))
            columns = [mix[:, :, i, None, None] for i in range(3)]
            images = columns[0] * red + columns[1] * green + columns[2] * blue
            return images.add_(per_image(added))
        return torch.addcmul(per_image(added), images, per_image(factor))


@dataclass(frozen=True)
class Blur(Augmentation):
    """A Gaussian blur of up to ``sigma`` pixels."""

    draws = 1
    sigma: float = setting(0, 8, required=True)

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        reach = min(math.ceil(3 * self.sigma), *(side - 1 for side in images.shape[2:]))
        sigma = (self.sigma * u).clamp(min=1e-3)  # (N, 1)
        distance = torch.arange(-reach, reach + 1, device=u.device)
        taps = torch.softmax(-(distance**2) / (2.0 * sigma**2), dim=1)  # (N, 2 * reach + 1)
        padded = functional.pad(images, (reach, reach, reach, reach), mode="reflect")
        wide = weighted_sum(padded.unfold(3, images.shape[3], 1).unbind(3), taps)
        return weighted_sum(wide.unfold(2, images.shape[2], 1).movedim(-1, 3).unbind(2), taps)


@dataclass(frozen=True)
class Noise(Augmentation):
    """Independent noise, nearly Gaussian, of a standard deviation of up to ``sigma``."""

    draws = 2
    sigma: float = setting(0, 1, required=True)

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        unit = noise(u[:, 1], tuple(images.shape[1:]))
        return torch.addcmul(images, unit, per_image(self.sigma * u[:, 0]))


@dataclass(frozen=True)
class Erase(Augmentation):
    """Paint over a rectangle of up to ``area`` of the image, in some grey.

    Random erasing, Zhong et al., 2017 (arXiv:1708.04896).
    """

    draws = 6
    probability: float = setting(0, 1, required=True)
    area: float = setting(0, 1, required=True)

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        chance, area, aspect, x, y, grey = u.unbind(dim=1)
        ratio = torch.exp((2.0 * aspect - 1.0) * math.log(2.0) / 2.0)
        side = torch.sqrt(self.area * area)
        inside = [
            within(length, start, count)
            for length, start, count in (
                ((side / ratio).clamp(max=1.0), y, images.shape[2]),
                ((side * ratio).clamp(max=1.0), x, images.shape[3]),
            )
        ]
        mask = inside[0][:, None, :, None] & inside[1][:, None, None, :]
        mask &= per_image(chance < self.probability)
        return torch.where(mask, per_image(grey), images)


def build_policy(policy: dict[str, dict[str, float]]) -> Policy:
    """The policy of ``augment.policy`` in ``params.yaml``; an empty one changes nothing.

    Augmentations are applied in the order of `AUGMENTATIONS`, whatever their order in the file.

    Raises:
        ConfigurationError: an unknown augmentation or setting, or a value outside its range.
    """
    known = ", ".join(AUGMENTATIONS)
    for name in policy:
        if name not in AUGMENTATIONS:
            raise ConfigurationError(
                f"params.yaml: augment.policy.{name} is not an augmentation"
                f"{did_you_mean(name, AUGMENTATIONS) or ';'} allowed: {known}"
            )
    built = ((name, _build(name, policy[name])) for name in AUGMENTATIONS if name in policy)
    return Policy(
        (name, augmentation)
        for name, augmentation in built
        if any(getattr(augmentation, item.name) for item in _settings(type(augmentation)))
    )


def _build(name: str, values: dict[str, float]) -> Augmentation:
    kind = AUGMENTATIONS[name]
    allowed = {item.name: item.metadata for item in _settings(kind)}
    ranges = ", ".join(f"{key} ({m['low']:g} to {m['high']:g})" for key, m in allowed.items())
    for key, value in values.items():
        where = f"params.yaml: augment.policy.{name}.{key}"
        if key not in allowed:
            hint = did_you_mean(key, allowed) or ";"
            raise ConfigurationError(f"{where} is not a setting{hint} allowed: {ranges}")
        low, high = allowed[key]["low"], allowed[key]["high"]
        if not low <= value <= high:
            raise ConfigurationError(f"{where}: {value:g} is not allowed, expected {ranges}")
    try:
        return kind(**values)
    except TypeError:
        raise ConfigurationError(
            f"params.yaml: augment.policy.{name} needs all of {ranges}"
        ) from None


def _settings(kind: type[Augmentation]) -> tuple[Field[Any], ...]:
    return fields(kind)  # type: ignore[arg-type]  # every entry of the table is a dataclass


AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "flip": Flip,
    "affine": Affine,
    "colour": Colour,
    "blur": Blur,
    "noise": Noise,
    "erase": Erase,
}
"""Applied in this order: first pixels are moved, then changed, last covered."""
