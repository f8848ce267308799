"""What the steps of an epoch take: which images, in what order and size, and augmented."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.params import TrainParams
from pipeline.training.distributed import Ranks
from pipeline.training.profile import NoProfile, Profile
from pipeline.training.schedule import size_at
from pipeline.training.splits import Split
from pipeline.vision.augmentation import Policy
from pipeline.vision.batches import Images, balanced_order, epoch_order, upload
from pipeline.vision.randomness import repeated

AHEAD = 2**20
"""Numbers of pixels that are taken and augmented together, of several batches where these are
small: an operation on a few images costs more to begin than to make."""


class Prepared(NamedTuple):
    """A pass's images as the network is given them, before they are mixed."""

    positions: Tensor
    """(B,) in the train split."""
    keys: Tensor
    """(B,) of their random numbers."""
    pixels: Tensor
    """(B, C, H, W)."""


class Feed:
    """The train split's images as the network is given them, an epoch at a time.

    What an epoch takes follows from the seed and its number alone. An image that is drawn several
    times in an epoch has several numbers there: its position, and that plus the split's length each
    time again. They lie on the host or on the device.
    """

    def __init__(self, train: Split, policy: Policy, settings: TrainParams, ranks: Ranks) -> None:
        self.train, self.policy = train, policy
        self._settings, self._ranks = settings, ranks
        self._images = train.images
        self._due, self._prepared = deque[Tensor](), deque[Prepared]()

    @property
    def images_per_epoch(self) -> int:
        """All but a last image that would be a batch alone: no norm can use it."""
        return len(self.train) - (len(self.train) % self._settings.batch_size == 1)

    @property
    def images_per_step(self) -> int:
        return self._settings.batch_size * self._settings.gradient_accumulation

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.images_per_epoch // self.images_per_step)

    def begin(self, epoch: int) -> list[Tensor]:
        """The numbers of the images of each step, which `take` is then asked for in that order."""
        self._images = self._images_of(epoch)
        batches = self._batches(epoch)
        self._prepared.clear()
        self._due = deque(part for batch in batches for part in self.passes_of(batch))
        return batches

    def passes_of(self, batch: Tensor) -> list[Tensor]:
        """What of ``batch`` falls to this process, a pass each."""
        parts = torch.split(batch, self._settings.batch_size)
        return [own for part in parts if len(own := self._ranks.part(part))]

    def take(self, drawn: Tensor, epoch: int, profile: Profile | NoProfile) -> Prepared:
        """``drawn``, one of `passes_of` a step, prepared together with what the epoch takes next.

        Args:
            profile: is told of the parts of that.
        """
        if not self._prepared:
            self._prepared.extend(self._prepare(self._group() or [drawn], epoch, profile))
        return self._prepared.popleft()

    def _group(self) -> list[Tensor]:
        """The next passes of the epoch, as many as `AHEAD` says; none outside of an epoch."""
        group, room = list[Tensor](), AHEAD
        while self._due:
            room -= len(self._due[0]) * self._images.numbers
            if group and room < 0:
                break
            group.append(self._due.popleft())
        return group

    def _prepare(
        self, parts: list[Tensor], epoch: int, profile: Profile | NoProfile
    ) -> Iterable[Prepared]:
        profile.enter("take")
        drawn = torch.cat(parts)
        pixels = self._images.take(drawn % len(self.train))
        positions, keys = self._look_up(upload(drawn, self.train.images.device))
        profile.enter("augment")
        pixels = self.policy(pixels, keys, seed=self._settings.seed, epoch=epoch)
        sizes = [len(part) for part in parts]
        split = (torch.split(each, sizes) for each in (positions, keys, pixels))
        return map(Prepared, *split)

    def _look_up(self, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """The positions of images and the keys of their random numbers."""
        if self._settings.sampling == "shuffle":
            return drawn, self.train.images.keys[drawn]
        positions = drawn % len(self.train)
        occurrences = torch.div(drawn, len(self.train), rounding_mode="floor")
        return positions, repeated(self.train.images.keys[positions], occurrences)

    def _batches(self, epoch: int) -> list[Tensor]:
        """See `begin`; they lie where the images are taken from."""
        images, seed = len(self.train), self._settings.seed
        if self._settings.sampling == "shuffle":
            order = epoch_order(np.arange(images), seed=seed, epoch=epoch)
        else:
            positions, occurrences = balanced_order(self.train.classes, seed=seed, epoch=epoch)
            order = positions + images * occurrences
        drawn = torch.from_numpy(order).to(self._images.index_device)[: self.images_per_epoch]
        return list(torch.split(drawn, self.images_per_step))

    def _images_of(self, epoch: int) -> Images:
        """The train split in the size of ``epoch``; each size is made once and then kept."""
        growing, final = self._settings.progressive_resizing, self._settings.image_size
        if growing is None:
            return self.train.images
        epochs, start = self._settings.epochs, growing.start
        size = size_at(epoch, epochs, start=start, final=final, share=growing.share)
        if size == final:
            return self.train.images
        return self._images if size == self._images.image_size else self.train.images.resized(size)
