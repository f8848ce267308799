"""What a section of the report is: what it measures of a variant, and the template that shows it.

A new section is a function from `Evaluated` to `Found`, a template in ``templates/sections/`` and
an entry in `sections.SECTIONS`; ``evaluate.sections`` in ``params.yaml`` then names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.pack import Packed
from pipeline.evaluation.bootstrap import Resampling
from pipeline.evaluation.measure import Results
from pipeline.evaluation.page import Drawing
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.reconstruction import Detector
from pipeline.evaluation.verdict import Point
from pipeline.params import Params
from pipeline.vision.batches import resize, to_float
from pipeline.vision.card import ModelCard
from pipeline.vision.metrics import Sample
from pipeline.vision.models import Classifier
from pipeline.vision.models.capsnet import CapsNet
from pipeline.vision.precision import autocast
from pipeline.vision.views import mean_logits

_VALIDATION = 1000
"""Validation images at most that `Evaluated.detector` comes from."""


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A trained variant, what it said, and all that a section may measure it by."""

    card: ModelCard
    classifier: Classifier
    """On ``device``, in eval mode; a section leaves it so."""
    device: torch.device
    packed: Packed
    predictions: Predictions
    results: Results
    history: pd.DataFrame
    """A row an epoch: epoch, train_loss, val_loss, train_accuracy, val_accuracy."""
    params: Params

    @property
    def sample(self) -> Sample:
        """The test images; image i is row ``test_rows[i]`` of ``packed``."""
        return self.predictions.samples["test"]

    @cached_property
    def test_rows(self) -> NDArray[np.int64]:
        return self.packed.rows("test")

    @property
    def resampling(self) -> Resampling:
        return Resampling.of(self.params.evaluate)

    @cached_property
    def detector(self) -> Detector | None:
        """Of images unlike the validation images; None where the network draws nothing."""
        if not isinstance(self.classifier.net, CapsNet):
            return None
        rows = self.packed.rows("val")
        lowest = np.argsort(self.packed.keys()[rows], kind="stable")[:_VALIDATION]
        images = self.resized(self.stored_images(np.sort(rows[lowest])))
        return Detector.fitted(self.classifier, images)

    def some_test_images(self, limit: int) -> NDArray[np.int64]:
        """Up to ``limit`` positions in ``sample``, ascending: of the images of lowest key.

        Keys are hashes of the images: a random choice, the same for every variant, which other
        images do not change.
        """
        order = np.argsort(self.packed.keys()[self.test_rows], kind="stable")
        return np.sort(order[:limit])

    def images(self, positions: NDArray[np.int64]) -> Tensor:
        """Test images as they are stored: (n, C, H, W) ``float32`` in [0, 1] on the device."""
        return self.stored_images(self.test_rows[positions])

    def stored_images(self, rows: NDArray[np.int64]) -> Tensor:
        """As `images`, of ``rows`` of ``packed``."""
        stored = np.ascontiguousarray(self.packed.images[rows])
        return to_float(torch.from_numpy(stored).to(self.device)).contiguous()

    def keys(self, positions: NDArray[np.int64]) -> Tensor:
        """(n,) ``int64`` on the device: `Packed.keys` of test images."""
        return torch.from_numpy(self.packed.keys()[self.test_rows[positions]]).to(self.device)

    def targets(self, positions: NDArray[np.int64]) -> Tensor:
        """(n,) ``int64`` on the device."""
        return torch.from_numpy(self.sample.targets[positions]).to(self.device)

    def logits(self, images: Tensor) -> Tensor:
        """(n, K) ``float32`` on the device, as the evaluation's own predictions are made.

        Args:
            images: (n, C, H, W) ``float32`` in [0, 1] in the stored size, on the device.
        """
        size = self.params.evaluate.batch_size
        layout = getattr(torch, self.card.plan["memory_format"])
        with torch.inference_mode(), autocast(self.device, self.card.plan["precision"]):
            parts = [
                mean_logits(
                    self.classifier, self.resized(batch), self.classifier.views, layout
                ).float()
                for batch in torch.split(images, size)
            ]
        return torch.cat(parts)

    def resized(self, images: Tensor) -> Tensor:
        """(n, C, H, W) in the stored size -> in the network's size, rounded as files are."""
        if images.shape[-1] == self.card.image_size:
            return images
        stored = images.mul(255.0).round_().byte().permute(0, 2, 3, 1)
        return to_float(resize(stored, self.card.image_size))


@dataclass(frozen=True)
class Found:
    """What a section found out."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """For its template, where it is called ``found``."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """For ``sections.json``: JSON, the same from run to run."""
    timings: Mapping[str, Any] = field(default_factory=dict)
    """JSON that differs from run to run: for the page and a file that no stage depends on."""
    points: tuple[Point, ...] = ()
    """What the verdict at the top should say of it."""
    drawings: tuple[Drawing, ...] = ()


@dataclass(frozen=True)
class Section:
    title: str
    template: str
    """Its file in ``templates/sections/``."""
    find: Callable[[Evaluated], Found]
