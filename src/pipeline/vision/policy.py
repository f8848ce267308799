"""What an augmentation is, and how several of them are applied to a batch.

What happens to an image follows from (seed, epoch, the image's key) alone: every random number is a
hash of these and of what it is for. So an image is augmented in the same way whatever batch,
process, device or resumed run it is in, and adding or removing one augmentation leaves the numbers
of the others as they were.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from functools import reduce
from typing import Any, ClassVar

import torch
from torch import Tensor

from pipeline.vision.image_ops import warp
from pipeline.vision.randomness import streams, uniform


def setting(low: float, high: float, *, required: bool = False) -> Any:
    """A setting of an augmentation, allowed from ``low`` to ``high``; left out it is 0, no effect.

    A ``required`` one makes no sense left out.
    """
    metadata = {"low": low, "high": high}
    return field(metadata=metadata) if required else field(default=0.0, metadata=metadata)


class Augmentation:
    """One kind of change, made to each image of a batch by its own random numbers."""

    draws: ClassVar[int]
    """How many random numbers it needs for an image."""

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        """Change ``images``, (N, C, H, W) ``float32``, by ``u``, (N, draws) uniform in [0, 1).

        Returns a new tensor. What leaves [0, 1] is clamped at the end of the policy.
        """
        raise NotImplementedError


class Geometry(Augmentation):
    """A change that moves pixels along straight lines; those of a policy become one warp."""

    def matrix(self, u: Tensor) -> Tensor:
        """(N, 3, 3), from a point of the result to the point of the image it is taken from.

        Homogeneous (x, y, 1); the image reaches from -1 to 1, and its sides count as equally long.
        """
        raise NotImplementedError

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        return warp(images, self.matrix(u))


class Policy:
    """Augmentations applied one after the other; see `build_policy`."""

    def __init__(self, augmentations: Iterable[tuple[str, Augmentation]]) -> None:
        self._parts = list(augmentations)
        cpu = streams((name, augmentation.draws) for name, augmentation in self._parts)
        self._streams = {cpu.device: cpu}

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
            changed = self._apply(images.float(), self._uniform(keys, seed, epoch))
            changed = changed.clamp(0.0, 1.0).to(images.dtype)
            return changed.contiguous(memory_format=_memory_format(images))

    def _apply(self, images: Tensor, u: Tensor) -> Tensor:
        geometry: list[tuple[Geometry, Tensor]] = []
        per_part = torch.split(u, [augmentation.draws for _, augmentation in self._parts], dim=1)
        for (_, augmentation), numbers in zip(self._parts, per_part, strict=True):
            if isinstance(augmentation, Geometry):
                geometry.append((augmentation, numbers))
                continue
            images = augmentation.apply(_apply_geometry(images, geometry), numbers)
            geometry = []
        return _apply_geometry(images, geometry)

    def _uniform(self, keys: Tensor, seed: int, epoch: int) -> Tensor:
        """(N, all draws) ``float32`` in [0, 1)."""
        device = keys.device
        if device not in self._streams:
            self._streams[device] = self._streams[torch.device("cpu")].to(device)
        return uniform(keys, self._streams[device], seed=seed, epoch=epoch)


def _apply_geometry(images: Tensor, parts: list[tuple[Geometry, Tensor]]) -> Tensor:
    """One after the other, but looked up once: interpolating twice would blur."""
    if not parts:
        return images
    if len(parts) == 1:
        augmentation, u = parts[0]
        return augmentation.apply(images, u)
    # The last one's result is looked up first, so its matrix stands rightmost.
    return warp(images, reduce(torch.matmul, [part.matrix(u) for part, u in parts]))


def _memory_format(images: Tensor) -> torch.memory_format:
    last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
