"""The images of a split on the device, and how much each counts in the objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.pack import Packed
from pipeline.errors import ConfigurationError, DataRefused, did_you_mean
from pipeline.params import TrainParams
from pipeline.training.objective import (
    class_weights,
    image_weights,
    soft_class_weights,
    soft_mass,
)
from pipeline.vision.batches import Images


@dataclass(frozen=True)
class Split:
    """The images of one split and their weights in the objective, (n,) float32, 1 on average."""

    images: Images
    weights: Tensor
    file_names: Sequence[str]
    classes: NDArray[np.int64]
    """(n,) the classes, on the host."""
    num_classes: int
    mass: Tensor | None = None
    """(n, K) float32 where labels are soft: ``weights``, divided among the classes."""

    def __len__(self) -> int:
        return len(self.images)


def make_splits(
    packed: Packed, settings: TrainParams, device: torch.device, *, where: str
) -> tuple[Split, Split]:
    """The train and val images on the device. Classes weigh in both as the train split asks.

    Raises:
        ConfigurationError: soft labels of something else than two classes, or no such column.
        DataRefused: a split has too few images, or none with a weight, or a soft label is none.
    """
    soft = _soft_labels(packed, settings, where) if settings.soft_labels else None
    by_class = torch.ones(len(packed.classes), device=device)
    splits = []
    for name in ("train", "val"):
        rows = packed.rows(name)
        if len(rows) < 2:
            raise DataRefused(
                f"the split '{name}' has {len(rows)} images, a training needs 2 at least; see"
                " split.ratios in params.yaml, or the column 'split' of data/metadata.csv"
            )
        images = Images(packed, rows, device=device, image_size=settings.image_size)
        samples = images.weights if settings.use_sample_weights else torch.ones_like(images.weights)
        balanced = name == "train" and settings.class_weights == "balanced"
        mass = None
        if soft is None:
            if balanced:
                by_class = class_weights(images.targets, samples, num_classes=len(by_class))
            weights = image_weights(images.targets, samples, by_class)
        else:
            probabilities = torch.tensor(soft[rows], device=device)
            if balanced:
                by_class = soft_class_weights(probabilities, samples)
            mass = soft_mass(probabilities, samples, by_class)
            weights = mass.sum(dim=1)
        names = packed.index["file_name"].iloc[rows].tolist()
        classes = packed.index["target"].to_numpy(np.int64)[rows]
        splits.append(Split(images, weights, names, classes, len(packed.classes), mass))
    train, val = splits
    return train, val


def _soft_labels(packed: Packed, settings: TrainParams, where: str) -> NDArray[np.float32]:
    """(N, 2), the probabilities of both classes, from the column ``settings.soft_labels``."""
    name = str(settings.soft_labels)
    what = f"params.yaml: {where}.soft_labels: '{name}'"
    if len(packed.classes) != 2:
        raise ConfigurationError(
            f"{what} holds the probability of the second of two classes, and the data has"
            f" {len(packed.classes)}; set soft_labels: null"
        )
    if name not in packed.extra_columns:
        raise ConfigurationError(
            f"{what} is not a column of the data"
            f"{did_you_mean(name, packed.extra_columns) or ';'} its further columns are"
            f" {', '.join(packed.extra_columns) or 'none'}"
        )
    second = pd.to_numeric(packed.index[name], errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~((second >= 0) & (second <= 1)))
    used = np.isin(packed.index["split"].to_numpy()[wrong], ["train", "val"])
    if used.any():
        row = packed.index.iloc[wrong[used][0]]
        raise DataRefused(
            f"{what}: {used.sum()} images have no probability from 0 to 1 there, such as"
            f" {row['file_name']} ({row[name]!r}); correct data/metadata.csv, or set"
            " soft_labels: null"
        )
    return np.stack([1.0 - second, second], axis=1).astype(np.float32)
