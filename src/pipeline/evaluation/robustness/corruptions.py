"""How a network stands the fifteen common corruptions at five severities.

Hendrycks & Dietterich, Benchmarking neural network robustness to common corruptions and
perturbations, 2019 (arXiv:1903.12261).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.evaluation.bootstrap import Interval, bootstrap, mean_of
from pipeline.evaluation.gallery import data_uri
from pipeline.evaluation.memory import at_a_time
from pipeline.evaluation.robustness.blur import BLURS
from pipeline.evaluation.robustness.corruption import SEVERITIES, Corruption, corrupt
from pipeline.evaluation.robustness.digital import DIGITAL
from pipeline.evaluation.robustness.noise import NOISES
from pipeline.evaluation.robustness.weather import WEATHER
from pipeline.evaluation.section import Evaluated, Found
from pipeline.evaluation.verdict import Point
from pipeline.evaluation.wording import percent
from pipeline.vision.metrics import Floats, finite

SHOWN = 3
"""The severity of the pictures."""
_CHUNK = 64
"""Images corrupted at a time, of large ones fewer: a random number for each pixel takes more room
than the image."""


@dataclass(frozen=True)
class Corrupted:
    """The errors of a variant under each of `CORRUPTIONS`."""

    images: int
    clean: float
    """Error on the same images as they are."""
    errors: Mapping[str, Sequence[float]]
    """By corruption, at each severity."""
    mean: Interval
    """Error over all corruptions and severities."""

    def as_json(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "clean_error": finite(self.clean),
            "errors": {k: [finite(e) for e in each] for k, each in self.errors.items()},
            "mean_error": self.mean.as_json(),
            "titles": {name: CORRUPTIONS[name].title for name in self.errors},
        }


def find(evaluated: Evaluated) -> Found:
    """Errors on up to ``evaluate.corruptions.images`` test images, corrupted in every way."""
    settings = evaluated.params.evaluate.corruptions
    positions = evaluated.some_test_images(settings.images)
    corrupted = measure_corruptions(evaluated, positions)
    worst = max(corrupted.errors, key=lambda name: sum(corrupted.errors[name]))
    highest = percent(float(np.mean(corrupted.errors[worst])))
    text = (
        f"Under {len(CORRUPTIONS)} kinds of corruption it is wrong on"
        f" {percent(corrupted.mean.value)} instead of {percent(corrupted.clean)} of"
        f" {corrupted.images:,} test images. It is worst under “{CORRUPTIONS[worst].title}”:"
        f" {highest}."
    )
    return Found(
        values={
            "corrupted": corrupted,
            "corruptions": CORRUPTIONS,
            "severities": SEVERITIES,
            "pictures": _pictures(evaluated, positions[:1]),
            "shown": SHOWN,
        },
        numbers=corrupted.as_json(),
        points=(Point("Corrupted images", text),),
    )


def measure_corruptions(evaluated: Evaluated, positions: NDArray[np.int64]) -> Corrupted:
    """The errors on the test images at ``positions``, which is not empty."""
    most = min(_CHUNK, evaluated.params.evaluate.batch_size)
    size = at_a_time(most, *evaluated.packed.images.shape[1:3])
    chunks = np.split(positions, range(size, len(positions), size))
    wrong = torch.cat([_wrong(evaluated, chunk) for chunk in chunks], dim=1)
    mistakes: Floats = wrong.cpu().numpy().astype(np.float64)
    errors = mistakes.mean(axis=1).reshape(len(CORRUPTIONS), len(SEVERITIES))
    sample = evaluated.sample[positions]
    mean = bootstrap(sample, {"mean": mean_of(mistakes.mean(axis=0))}, evaluated.resampling)
    return Corrupted(
        len(positions),
        float((~sample.correct).mean()),
        dict(zip(CORRUPTIONS, errors.tolist(), strict=True)),
        **mean,
    )


def _wrong(evaluated: Evaluated, positions: NDArray[np.int64]) -> Tensor:
    """(corruptions * severities, n) whether each image is mistaken."""
    images, keys = evaluated.images(positions), evaluated.keys(positions)
    targets, seed = evaluated.targets(positions), evaluated.params.evaluate.seed
    return torch.stack(
        [
            evaluated.logits(corrupt(images, keys, name, each, severity, seed=seed)).argmax(dim=1)
            != targets
            for name, each in CORRUPTIONS.items()
            for severity in SEVERITIES
        ]
    )


def _pictures(evaluated: Evaluated, positions: NDArray[np.int64]) -> dict[str, str]:
    """The image at ``positions``, corrupted in every way, as data URIs."""
    image, key = evaluated.images(positions), evaluated.keys(positions)
    seed = evaluated.params.evaluate.seed
    pictures = {}
    for name, each in CORRUPTIONS.items():
        changed = corrupt(image, key, name, each, SHOWN, seed=seed)[0]
        pixels = changed.mul(255.0).round_().byte().permute(1, 2, 0).cpu().numpy()
        pictures[name], _ = data_uri(pixels)
    return pictures


CORRUPTIONS: dict[str, Corruption] = NOISES | BLURS | WEATHER | DIGITAL
"""The fifteen. A new one is a function and an entry in the table of its file."""
