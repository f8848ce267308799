"""How a prediction holds while its image is moved, turned, scaled, mirrored, lit or covered.

For each value the accuracy, and the consistency: how many images keep the class they had unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.evaluation.page import Drawing
from pipeline.evaluation.robustness.corruption import Randomness
from pipeline.evaluation.section import Evaluated, Found
from pipeline.evaluation.sweeps import held_over_values
from pipeline.evaluation.verdict import Point
from pipeline.evaluation.wording import percent
from pipeline.vision.image_ops import outer, warp, within
from pipeline.vision.metrics import finite


@dataclass(frozen=True)
class Invariance:
    """A change, over a range of values; one of them changes nothing, or nearly so."""

    title: str
    axis: str
    """What the values are."""
    values: tuple[float, ...]
    apply: Callable[[Tensor, Randomness, float], Tensor]
    """(images (N, C, H, W), randomness, value) -> a new tensor like the images."""
    names: tuple[str, ...] = ()
    """Of the values, where they are no numbers."""


@dataclass(frozen=True)
class Held:
    """Accuracy and consistency at each value of an `Invariance`."""

    invariance: Invariance
    accuracy: tuple[float, ...]
    consistency: tuple[float, ...]

    @property
    def mean_consistency(self) -> float:
        return float(np.mean(self.consistency))

    @property
    def lowest(self) -> int:
        """Which value changes most predictions."""
        return int(np.argmin(self.consistency))


def shift(images: Tensor, randomness: Randomness, share: float) -> Tensor:  # noqa: ARG001
    """To the right by this share of the width; the border is mirrored."""
    return _warped(images, [[1.0, 0.0, -2.0 * share], [0.0, 1.0, 0.0]])


def drop(images: Tensor, randomness: Randomness, share: float) -> Tensor:  # noqa: ARG001
    """Down by this share of the height; the border is mirrored."""
    return _warped(images, [[1.0, 0.0, 0.0], [0.0, 1.0, -2.0 * share]])


def turn(images: Tensor, randomness: Randomness, degrees: float) -> Tensor:  # noqa: ARG001
    """Clockwise; the border is mirrored."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _warped(images, [[cos, sin, 0.0], [-sin, cos, 0.0]])


def scale(images: Tensor, randomness: Randomness, factor: float) -> Tensor:  # noqa: ARG001
    """Larger by ``factor`` about the centre; the border is mirrored."""
    return _warped(images, [[1.0 / factor, 0.0, 0.0], [0.0, 1.0 / factor, 0.0]])


def mirror(images: Tensor, randomness: Randomness, which: float) -> Tensor:  # noqa: ARG001
    """0: nothing, 1: left to right, 2: top to bottom, 3: both."""
    sides = {0: (), 1: (3,), 2: (2,), 3: (2, 3)}[int(which)]
    return images.flip(sides)


def light(images: Tensor, randomness: Randomness, added: float) -> Tensor:  # noqa: ARG001
    """Brighter by this share of the range from black to white."""
    return (images + added).clamp(0.0, 1.0)


def cover(images: Tensor, randomness: Randomness, area: float) -> Tensor:
    """A square of this share of the area, somewhere, painted in the image's mean colour."""
    place = randomness.uniform(2)
    side = torch.full_like(place[:, 0], math.sqrt(area))
    rows, columns = (within(side, place[:, i], length) for i, length in enumerate(images.shape[2:]))
    return torch.lerp(images, images.mean(dim=(2, 3), keepdim=True), outer(rows, columns))


def _warped(images: Tensor, rows: list[list[float]]) -> Tensor:
    matrix = torch.tensor([*rows, [0.0, 0.0, 1.0]], device=images.device)
    return warp(images, matrix.expand(len(images), 3, 3))


def find(evaluated: Evaluated) -> Found:
    """The curves on up to ``evaluate.invariance.images`` test images."""
    positions = evaluated.some_test_images(evaluated.params.evaluate.invariance.images)
    held = measure_invariance(evaluated, positions)
    weakest = min(held, key=lambda name: held[name].mean_consistency)
    each = held[weakest]
    text = (
        f"It changes its mind most under {each.invariance.title.lower()}: over the whole range"
        f" {percent(each.mean_consistency)} of {len(positions):,} test images keep their class."
    )
    return Found(
        values={"held": held, "images": len(positions)},
        numbers={
            "images": len(positions),
            **{
                name: {
                    "values": list(each.invariance.values),
                    "accuracy": [finite(value) for value in each.accuracy],
                    "consistency": [finite(value) for value in each.consistency],
                }
                for name, each in held.items()
            },
        },
        points=(Point("Moved and changed images", text),),
        drawings=tuple(_drawing(name, each) for name, each in held.items()),
    )


def measure_invariance(evaluated: Evaluated, positions: NDArray[np.int64]) -> dict[str, Held]:
    """Each of `INVARIANCES` on the test images at ``positions``, which is not empty."""
    images, keys = evaluated.images(positions), evaluated.keys(positions)
    targets, seed = evaluated.targets(positions), evaluated.params.evaluate.seed
    unchanged = evaluated.logits(images).argmax(dim=1)
    held = {}
    for name, each in INVARIANCES.items():
        randomness = Randomness(keys, seed, 0, name)
        classes = torch.stack(
            [
                evaluated.logits(each.apply(images, randomness, value)).argmax(dim=1)
                for value in each.values
            ]
        )
        shares = torch.stack([classes == targets, classes == unchanged]).double().mean(dim=2)
        accuracy, consistency = shares.cpu().tolist()
        held[name] = Held(each, tuple(accuracy), tuple(consistency))
    return held


def _drawing(name: str, held: Held) -> Drawing:
    caption = f"{percent(held.mean_consistency)} keep their class over the whole range."
    draw = partial(held_over_values, held)
    return Drawing(f"invariance_{name}", held.invariance.title, caption, draw)


def _from_to(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in np.linspace(low, high, count))


INVARIANCES: dict[str, Invariance] = {
    "translation_x": Invariance(
        "Translation, sideways",
        "to the right, share of the width",
        _from_to(-0.25, 0.25, 11),
        shift,
    ),
    "translation_y": Invariance(
        "Translation, up and down", "down, share of the height", _from_to(-0.25, 0.25, 11), drop
    ),
    "rotation": Invariance("Rotation", "degrees, clockwise", _from_to(-180.0, 180.0, 25), turn),
    "scale": Invariance("Scale", "times larger", (0.5, 0.625, 0.8, 1.0, 1.25, 1.6, 2.0), scale),
    "flip": Invariance(
        "Flip", "mirrored", (0.0, 1.0, 2.0, 3.0), mirror, ("not", "sideways", "up-down", "both")
    ),
    "brightness": Invariance(
        "Brightness", "added, share of the range", _from_to(-0.4, 0.4, 9), light
    ),
    "occlusion": Invariance("Occlusion", "covered share of the area", _from_to(0.0, 0.6, 7), cover),
}
"""A new one is a function above and an entry here."""
