"""Batches for training: the order of an epoch, and a split's images on the device."""

from __future__ import annotations

import copy
import os

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.data.pack import Packed

_SHARE_OF_MEMORY = 0.4
"""What the images may take of the free memory: the rest is for the network and its gradients."""


def epoch_order(rows: NDArray[np.int64], *, seed: int, epoch: int) -> NDArray[np.int64]:
    """``rows`` in the order of ``epoch``: a permutation that follows from (seed, epoch) alone.

    It neither reads nor moves any global generator. Built on NumPy's raw bit stream, which, unlike
    ``Generator.permutation``, is promised to stay the same in later versions.
    """
    return _shuffled(rows, seed, epoch)


def _shuffled(rows: NDArray[np.int64], *numbers: int) -> NDArray[np.int64]:
    bits = np.random.PCG64(np.random.SeedSequence(numbers)).random_raw(len(rows))
    return rows[np.argsort(bits, kind="stable")]


def balanced_order(
    targets: NDArray[np.int64], *, seed: int, epoch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As many images as there are, every class equally often, in an order like `epoch_order`'s.

    A class has its turn as a whole before an image of it comes again. Where the classes do not
    divide the number of images, those that get one more differ from epoch to epoch.

    Args:
        targets: (N,) classes; those without an image get none.

    Returns:
        (N,) positions in ``targets``, and (N,) how often the image was drawn before in this epoch:
        for `vision.randomness.repeated`.
    """
    classes = np.unique(targets)
    favoured = _shuffled(np.arange(len(classes)), seed, epoch, 1)
    share, rest = divmod(len(targets), max(1, len(classes)))
    shuffled = _shuffled(np.arange(len(targets)), seed, epoch, 2)
    positions, occurrences = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    for i, target in enumerate(classes):
        members = shuffled[targets[shuffled] == target]
        draws = np.arange(share + (favoured[i] < rest))
        positions.append(members[draws % len(members)])
        occurrences.append(draws // len(members))
    mixed = _shuffled(np.arange(len(targets)), seed, epoch, 3)
    return np.concatenate(positions)[mixed], np.concatenate(occurrences)[mixed]


def to_float(images: Tensor) -> Tensor:
    """(N, H, W, C) ``uint8`` -> (N, C, H, W) ``float32`` in [0, 1], channels last in memory."""
    return images.permute(0, 3, 1, 2).float().div_(255)


def resize(images: Tensor, image_size: int) -> Tensor:
    """(N, H, W, C) ``uint8`` -> (N, image_size, image_size, C) ``uint8``, antialiased.

    Training and prediction shrink stored images by this one function.
    """
    if images.shape[1:3] == (image_size, image_size):
        return images
    planes = images.permute(0, 3, 1, 2).float()
    small = functional.interpolate(
        planes, (image_size, image_size), mode="bilinear", antialias=True
    )
    return small.round_().clamp_(0, 255).byte().permute(0, 2, 3, 1).contiguous()


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``. From the host to a GPU it is on its way when this returns."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        # The GPU copies from pinned memory by itself; PyTorch keeps that until it has.
        return tensor.pin_memory().to(device, non_blocking=True)
    # Never so to the host, which would read before the GPU has written.
    return tensor.to(device)


class Images:
    """Some rows of the packed data, ready for the device.

    The images lie on the device where they fit, otherwise in the host's memory, otherwise they stay
    in the file; a GPU then gets each batch from pinned memory.

    Attributes:
        targets: (n,) ``int64`` on the device.
        weights: (n,) ``float32`` on the device.
        keys: (n,) ``int64`` on the device, for `vision.augmentation.Policy`.
        image_size: the side of what `take` returns.
    """

    def __init__(
        self,
        packed: Packed,
        rows: NDArray[np.int64],
        *,
        device: torch.device | str,
        image_size: int,
    ) -> None:
        """
        Args:
            packed: the packed data.
            rows: which of its rows; `take` counts within them.
            device: where batches are wanted.
            image_size: at most ``packed.image_size``.
        """
        self.device = torch.device(device)
        self.image_size = image_size
        self._rows = rows
        index = packed.index.iloc[rows]
        self.targets = torch.tensor(index["target"].to_numpy(np.int64), device=self.device)
        self.weights = torch.tensor(index["weight"].to_numpy(np.float32), device=self.device)
        self.keys = torch.tensor(packed.keys()[rows], device=self.device)
        self._file = packed.images
        self._store = self._load()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def index_device(self) -> torch.device:
        """Where `take` wants its indices, to make a batch without waiting for the device."""
        return torch.device("cpu") if self._store is None else self._store.device

    @property
    def numbers(self) -> int:
        """Of the pixels of an image, each channel's counted."""
        return self.image_size**2 * int(self._file.shape[3])

    def resized(self, image_size: int) -> Images:
        """The same images with another side, at most that of the packed ones."""
        other = copy.copy(self)
        other.image_size = image_size
        other._store = other._load()  # noqa: SLF001 (of this class)
        return other

    def take(self, indices: Tensor) -> Tensor:
        """Images by their positions in ``rows``: (N, C, H, W) ``float32`` in [0, 1].

        The result is on the device and channels last in memory. ``indices`` is ``int64`` of shape
        (N,); the host waits for a GPU that they lie on, unless the images are there too.
        """
        if self._store is not None:
            # Whole images in one stretch: ten times faster than indexing by the first of four.
            stored = self._store.view(len(self._store), -1)
            place = indices.to(self._store.device)
            chosen = stored.index_select(0, place).view(len(place), *self._store.shape[1:])
            return to_float(upload(chosen, self.device))
        chosen = self._read(self._rows[indices.cpu().numpy()])
        return to_float(resize(chosen, self.image_size))

    def _read(self, rows: NDArray[np.int64]) -> Tensor:
        """Stored images from the file to the device, (N, H, W, C) ``uint8``."""
        return upload(torch.from_numpy(self._file[rows]), self.device)

    def _load(self) -> Tensor | None:
        """All images at ``image_size`` where they fit, ``None`` where they stay in the file."""
        shape = (len(self._rows), self.image_size, self.image_size, self._file.shape[3])
        home = next(
            (place for place in _places(self.device) if np.prod(shape) <= _room(place)), None
        )
        if home is None:
            return None
        store = torch.empty(shape, dtype=torch.uint8, device=home)
        for start in range(0, len(store), 1024):
            images = self._read(self._rows[start : start + 1024])
            store[start : start + 1024] = resize(images, self.image_size)
        return store


def _places(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cpu" else [device, torch.device("cpu")]


def _room(place: torch.device) -> float:
    """Bytes that images may take there."""
    if place.type == "cuda":
        return _SHARE_OF_MEMORY * torch.cuda.mem_get_info(place)[0]
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes of a training on this machine
    return _SHARE_OF_MEMORY * psutil.virtual_memory().available / beside
