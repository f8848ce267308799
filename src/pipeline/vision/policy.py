"""What an augmentation is, and how several of them are applied to a batch.

What happens to an image follows from (seed, epoch, the image's key) alone: every random number is a
hash of these and of what it is for. So an image is augmented in the same way whatever batch,
process, device or resumed run it is in, and adding or removing one augmentation leaves the numbers
of the others as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from pipeline.vision.image_ops import memory_format_of, mix_channels, take_pixels, warp
from pipeline.vision.mixing import Mixing
from pipeline.vision.randomness import OnDevices, streams, uniform


class Augmentation:
    """One kind of change, made to each image of a batch by its own random numbers."""

    needs_planes = True
    """Whether it is faster with each channel's pixels side by side in memory."""

    @property
    def draws(self) -> int:
        """How many random numbers it needs for an image."""
        raise NotImplementedError

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        """Change ``images``, (N, C, H, W) ``float32``, by ``u``, (N, draws) uniform in [0, 1).

        Returns a new tensor. What leaves [0, 1] is clamped at the end of the policy.
        """
        raise NotImplementedError

    @staticmethod
    def apply_all(images: Tensor, parts: Sequence[tuple[Any, Tensor]]) -> Tensor:
        """Apply augmentations of this kind, which follow each other, by their own numbers."""
        for part, u in parts:
            images = part.apply(images, u)
        return images


class Geometry(Augmentation):
    """A change that moves pixels along straight lines; those of a policy become one warp."""

    def matrix(self, u: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, 3, 3), from a point of the result to the point of the image it is taken from.

        Homogeneous (x, y, 1); the image reaches from -1 to 1, and its sides count as equally long.
        ``size`` is its height and width in pixels.
        """
        raise NotImplementedError

    def pixels(
        self,
        u: Tensor,  # noqa: ARG002
        size: tuple[int, int],  # noqa: ARG002
    ) -> tuple[Tensor, Tensor] | None:
        """(N, H) and (N, W): the row and the column that each one of the result is taken from.

        ``None`` where pixels do not move as whole rows and columns.
        """
        return None

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        return self.apply_all(images, [(self, u)])

    @staticmethod
    def apply_all(images: Tensor, parts: Sequence[tuple[Any, Tensor]]) -> Tensor:
        """One after the other, but looked up once: interpolating twice would blur.

        Whole pixels are copied and not interpolated.
        """
        size = (images.shape[2], images.shape[3])
        moved = [part.pixels(u, size) for part, u in parts]
        if all(pixels is not None for pixels in moved):
            return take_pixels(images, *reduce(_one_after_the_other, moved))
        # The last one's result is looked up first, so its matrix stands rightmost.
        return warp(images, reduce(torch.matmul, [part.matrix(u, size) for part, u in parts]))


class Recolouring(Augmentation):
    """A change of each pixel's colour by a matrix; those of a policy become one matrix."""

    def matrix(self, u: Tensor, channels: int) -> Tensor:
        """(N, C, C + 1): the result's channels from the image's, and in the last column from 1."""
        raise NotImplementedError

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        return self.apply_all(images, [(self, u)])

    @staticmethod
    def apply_all(images: Tensor, parts: Sequence[tuple[Any, Tensor]]) -> Tensor:
        """One after the other, by the product of their matrices."""
        channels = images.shape[1]
        return mix_channels(images, reduce(_then, [p.matrix(u, channels) for p, u in parts]))


class Policy:
    """Augmentations applied one after the other; see `build_policy`.

    Attributes:
        mixing: what is done with pairs of images afterwards, by whoever has their labels.
    """

    def __init__(
        self, augmentations: Iterable[tuple[str, Augmentation]], mixing: Mixing | None = None
    ) -> None:
        self.mixing = mixing
        named = list(augmentations)
        self._parts = [augmentation for _, augmentation in named]
        self._streams = OnDevices(streams((name, part.draws) for name, part in named))

    def __call__(self, images: Tensor, keys: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Augmented copies of ``images``; these stay as they are.

        Args:
            images: (N, C, H, W), floating point in [0, 1].
            keys: (N,) ``int64``, on the same device: `Packed.keys` of these images.
            seed: the training's.
            epoch: which pass over the images it is.

        Returns:
            (N, C, H, W) in [0, 1], of the dtype and memory format of ``images``.
        """
        if not self._parts:
            return images
        # Autocast would round the matrices of the geometry to bfloat16: whole pixels on the way.
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            u = uniform(keys, self._streams.on(keys.device), seed=seed, epoch=epoch)
            changed = self._apply(images.float(), u).clamp_(0.0, 1.0).to(images.dtype)
            return changed.contiguous(memory_format=memory_format_of(images))

    def _apply(self, images: Tensor, u: Tensor) -> Tensor:
        numbers = torch.split(u, [part.draws for part in self._parts], dim=1)
        for kind, run in groupby(zip(self._parts, numbers, strict=True), key=_kind):
            parts = list(run)
            if kind is not Geometry and any(part.needs_planes for part, _ in parts):
                images = images.contiguous()
            images = kind.apply_all(images, parts)
        return images


def _kind(part: tuple[Augmentation, Tensor]) -> type[Augmentation]:
    return next(kind for kind in (Geometry, Recolouring, Augmentation) if isinstance(part[0], kind))


def _one_after_the_other(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    return first[0].gather(1, second[0]), first[1].gather(1, second[1])


def _then(first: Tensor, second: Tensor) -> Tensor:
    linear, constant = second[:, :, :-1], second[:, :, -1:]
    changed = linear @ first
    changed[:, :, -1:] += constant
    return changed
