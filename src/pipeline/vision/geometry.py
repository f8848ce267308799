"""Augmentations that move pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.vision.policy import Geometry
from pipeline.vision.settings import setting


@dataclass(frozen=True)
class Flip(Geometry):
    """Mirror left and right, top and bottom, with these probabilities."""

    draws = 2
    horizontal: float = setting(0, 1)
    vertical: float = setting(0, 1)

    def matrix(self, u: Tensor, size: tuple[int, int]) -> Tensor:  # noqa: ARG002
        x, y = (1.0 - 2.0 * mirrored.float() for mirrored in self._mirrored(u))
        return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))

    def pixels(self, u: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        x, y = self._mirrored(u)
        rows, columns = (
            torch.where(mirrored[:, None], forward.flip(0), forward)
            for mirrored, forward in (
                (mirrored, torch.arange(side, device=u.device))
                for mirrored, side in zip((y, x), size, strict=True)
            )
        )
        return rows, columns

    def _mirrored(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return u[:, 0] < self.horizontal, u[:, 1] < self.vertical


@dataclass(frozen=True)
class Crop(Geometry):
    """Cut a window out of the image.

    With ``padding``, a share of the side, the image is first padded by its own mirrored border and
    the window has the image's size: it moves by whole pixels, and none is interpolated (He et al.,
    Deep residual learning, 2016). With ``cut``, up to this share of the area is left out and the
    rest stretched, up to 1 + ``aspect`` times wider or higher than it was (Szegedy et al., Going
    deeper with convolutions, 2015).
    """

    draws = 6
    padding: float = setting(0, 0.5)
    cut: float = setting(0, 0.99)
    aspect: float = setting(0, 4)

    def matrix(self, u: Tensor, size: tuple[int, int]) -> Tensor:
        area = 1.0 - self.cut * u[:, 2]
        ratio = torch.exp((2.0 * u[:, 3] - 1.0) * math.log1p(self.aspect))
        down, right = self._moved(u, size)
        zero, one = torch.zeros_like(area), torch.ones_like(area)
        width, height = (torch.sqrt(a).clamp(max=1.0) for a in (area * ratio, area / ratio))
        x = (1.0 - width) * (2.0 * u[:, 4] - 1.0) + 2.0 * right / size[1]
        y = (1.0 - height) * (2.0 * u[:, 5] - 1.0) + 2.0 * down / size[0]
        return _matrices([[width, zero, x], [zero, height, y], [zero, zero, one]])

    def pixels(self, u: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor] | None:
        if self.cut or self.aspect:
            return None
        rows, columns = (
            _mirrored_at_the_border(torch.arange(side, device=u.device) + moved[:, None], side)
            for moved, side in zip(self._moved(u, size), size, strict=True)
        )
        return rows, columns

    def _moved(self, u: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """How many pixels the window lies lower, and further right: (N,) ``int64`` each."""
        pads = [int(self.padding * side + 0.5) for side in size]
        down, right = ((u[:, i] * (2 * pad + 1)).long() - pad for i, pad in enumerate(pads))
        return down, right


@dataclass(frozen=True)
class Affine(Geometry):
    """Turn, move, scale and shear, each uniformly up to its limit in both directions.

    ``rotate`` and ``shear`` are degrees, ``shift`` is a share of the side, and ``scale`` 0.1 lets
    an object be up to 1.1 times larger or smaller. An image left out by ``probability`` keeps its
    pixels as sharp as they are.
    """

    draws = 6
    rotate: float = setting(0, 180)
    shift: float = setting(0, 1)
    scale: float = setting(0, 4)
    shear: float = setting(0, 60)
    probability: float = setting(0, 1, default=1.0)

    def matrix(self, u: Tensor, size: tuple[int, int]) -> Tensor:  # noqa: ARG002
        turn, right, down, grow, slant = (2.0 * u[:, :5] - 1.0).unbind(dim=1)
        angle = turn * math.radians(self.rotate)
        tangent = torch.tan(slant * math.radians(self.shear))
        shrink = torch.exp(-grow * math.log1p(self.scale))
        cos, sin = torch.cos(angle) * shrink, torch.sin(angle) * shrink
        x, y = -2.0 * self.shift * right, -2.0 * self.shift * down
        # Inverse of "shear, scale, turn, move": the result's points are looked up in the image.
        a, b = cos + tangent * sin, sin - tangent * cos
        zero, one = torch.zeros_like(turn), torch.ones_like(turn)
        changed = _matrices(
            [[a, b, a * x + b * y], [-sin, cos, cos * y - sin * x], [zero, zero, one]]
        )
        chosen = u[:, 5] < self.probability
        return torch.where(chosen[:, None, None], changed, torch.eye(3, device=u.device))


def _matrices(rows: list[list[Tensor]]) -> Tensor:
    """(N, 3, 3) from entries (N,)."""
    return torch.stack([entry for row in rows for entry in row], dim=1).view(-1, 3, 3)


def _mirrored_at_the_border(place: Tensor, side: int) -> Tensor:
    """Positions from -side to 2 * side - 1, brought within the side; the border comes twice."""
    place = torch.where(place < 0, -1 - place, place)
    return torch.where(place >= side, 2 * side - 1 - place, place)
