"""The report's section "Explanations": where a variant looked, what it looks for, and checks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.evaluation.explain import pictures
from pipeline.evaluation.explain.activation_maximisation import Objective, maximise
from pipeline.evaluation.explain.checks import SHARES, check, completeness, explain_each
from pipeline.evaluation.explain.embedding import Observed, observe
from pipeline.evaluation.explain.gradient import CannotExplain
from pipeline.evaluation.explain.layers import feature_layers, feature_maps, first_kernels
from pipeline.evaluation.explain.methods import METHODS
from pipeline.evaluation.explain.nearest import nearest
from pipeline.evaluation.explain.spectrum import spectrum
from pipeline.evaluation.section import Evaluated, Found, Section
from pipeline.params import ExplainParams

NEIGHBOURS = 3
"""Training images shown beside an explained one."""
STRONGEST = 4
"""Training images shown of a unit."""
MAX_KERNELS = 64
LAYERS, MAPS = 4, 16
"""Layers whose feature maps of one image are shown, and how many of each."""
SPECTRUM_SIDE = 24


@dataclass(frozen=True)
class Case:
    """A test image, why the network says what it says, and the training images it is like."""

    file_name: str
    truth: str
    predicted: str
    confidence: float
    picture: str
    maps: tuple[tuple[str, str], ...]
    """The title of a method, and its map of the predicted class."""
    nearest: tuple[tuple[str, str, float], ...]
    """Class, picture and cosine of training images, the nearest first."""


@dataclass(frozen=True)
class Wanted:
    """What a unit or a class answers to most."""

    name: str
    maximised: str | None
    strongest: tuple[str, ...]


def find(evaluated: Evaluated) -> Found:
    """Explain some right and some wrong predictions of the test images, and check the maps.

    A method that the network cannot be explained by is named with the reason.
    """
    params = evaluated.params.evaluate.explain
    chosen = some_cases(evaluated, params.images)
    if not len(chosen):
        return Found({"cases": []})
    classifier, card = evaluated.classifier, evaluated.card
    images = evaluated.resized(evaluated.images(chosen))
    targets = torch.as_tensor(evaluated.sample.predicted[chosen], device=evaluated.device)
    maps, refused = explain_each(classifier, images, targets, params.methods)
    checked = check(
        *(classifier, images, targets, maps),
        precision=card.plan["precision"],
        batch_size=evaluated.params.evaluate.batch_size,
    )
    gap = completeness(classifier, images, targets, maps)
    found = feature_layers(classifier, images[:1])
    layers = {name: shape for name, shape in found.items() if name.startswith("net.")}
    rows = some_training_rows(evaluated, params.examples)
    layer = next(reversed(layers), None)
    looks = _Looks(evaluated, params, images, rows, layer)
    values: dict[str, Any] = {
        "cases": _cases(evaluated, chosen, maps, looks),
        "methods": [METHODS[name] for name in maps],
        "refused": [(METHODS[name].title, reason) for name, reason in refused.items()],
        "checked": checked,
        "gap": gap,
        "shares": SHARES,
        "examples": len(rows),
        "kernels": _kernels(evaluated, images),
        "maps": _feature_maps(evaluated, images[:1], list(layers)),
        "layer": (layer, layers[layer]) if layer else None,
        "units": looks.units(layers[layer][0]) if layer else [],
        "classes": looks.classes(),
    }
    numbers = {"checks": [asdict(each) for each in checked], "completeness_gap": gap}
    return Found(values, numbers | {"refused": refused, "image_size": card.image_size})


def some_cases(evaluated: Evaluated, limit: int) -> NDArray[np.int64]:
    """Positions among the test images: half of them wrong, where there are, the first ones first.

    By the hashes of the images, so that other images do not change the choice.
    """
    order = np.argsort(evaluated.packed.keys()[evaluated.test_rows], kind="stable")
    right = evaluated.sample.correct[order]
    wrong = order[~right][: limit // 2]
    return np.concatenate([wrong, order[right][: limit - len(wrong)]]).astype(np.int64)


def some_training_rows(evaluated: Evaluated, limit: int) -> NDArray[np.int64]:
    """Rows of the packed data, chosen likewise."""
    rows = evaluated.packed.rows("train")
    order = np.argsort(evaluated.packed.keys()[rows], kind="stable")
    return np.sort(rows[order[:limit]])


class _Looks:
    """What the training images and the network itself say of units, classes and likeness."""

    def __init__(
        self,
        evaluated: Evaluated,
        params: ExplainParams,
        images: Tensor,
        rows: NDArray[np.int64],
        layer: str | None,
    ) -> None:
        self._evaluated, self._params, self._images = evaluated, params, images
        self._rows, self._layer = rows, layer
        self._trained = self._observe(rows, layer) if len(rows) else None

    def _observe(self, rows: NDArray[np.int64], layer: str | None = None) -> Observed | None:
        try:
            return observe(
                self._evaluated.classifier,
                self._evaluated.card,
                self._evaluated.packed,
                rows,
                device=self._evaluated.device,
                layer=layer,
                batch_size=self._evaluated.params.evaluate.batch_size,
            )
        except CannotExplain:
            return None

    def nearest(self, rows: NDArray[np.int64]) -> list[tuple[tuple[str, str, float], ...]]:
        """Of each image its training images of the highest cosine."""
        queries = self._observe(rows) if self._trained is not None else None
        if queries is None or self._trained is None:
            return [()] * len(rows)
        found, cosines = nearest(self._trained.embeddings, queries.embeddings, NEIGHBOURS)
        index, images = self._evaluated.packed.index, self._evaluated.packed.images
        return [
            tuple(
                (str(index["label"].iloc[row]), pictures.photograph(images[row]), float(cosine))
                for row, cosine in zip(self._rows[positions], likeness, strict=True)
            )
            for positions, likeness in zip(found, cosines, strict=True)
        ]

    def units(self, count: int) -> list[Wanted]:
        """Some units of the layer, evenly from all ``count`` of them."""
        chosen = np.unique(np.linspace(0, count - 1, min(count, self._params.units)).astype(int))
        if self._layer is None or self._trained is None or not len(chosen):
            return []
        peaks = self._trained.peaks
        drawn = self._maximised(Objective(chosen.tolist(), self._layer))
        return [
            Wanted(f"{unit}", image, self._strongest(peaks[:, unit]) if peaks is not None else ())
            for unit, image in zip(chosen.tolist(), drawn, strict=True)
        ]

    def classes(self) -> list[Wanted]:
        names = self._evaluated.card.classes[: self._params.units]
        drawn = self._maximised(Objective(range(len(names)))) if names else []
        return [Wanted(name, image, ()) for name, image in zip(names, drawn, strict=True) if image]

    def _strongest(self, peaks: NDArray[np.float32]) -> tuple[str, ...]:
        best = np.argsort(-peaks, kind="stable")[:STRONGEST]
        stored = self._evaluated.packed.images
        return tuple(pictures.photograph(stored[row]) for row in self._rows[best])

    def _maximised(self, objective: Objective) -> list[str | None]:
        if not self._params.steps:
            return [None] * len(objective.units)
        drawn = maximise(
            self._evaluated.classifier,
            objective,
            channels=self._evaluated.card.channels,
            image_size=self._evaluated.card.image_size,
            steps=self._params.steps,
            seed=self._evaluated.params.evaluate.seed,
        )
        return [pictures.picture(image) for image in drawn]


def _cases(
    evaluated: Evaluated, chosen: NDArray[np.int64], maps: dict[str, Tensor], looks: _Looks
) -> list[Case]:
    sample, classes = evaluated.sample, evaluated.card.classes
    rows = evaluated.test_rows[chosen]
    nearest_ones = looks.nearest(rows)
    return [
        Case(
            file_name=str(evaluated.packed.index["file_name"].iloc[row]),
            truth=classes[sample.targets[position]],
            predicted=classes[sample.predicted[position]],
            confidence=float(sample.confidence[position]),
            picture=pictures.photograph(evaluated.packed.images[row]),
            maps=tuple((METHODS[name].title, pictures.heat(maps[name][i])) for name in maps),
            nearest=nearest_ones[i],
        )
        for i, (row, position) in enumerate(zip(rows, chosen, strict=True))
    ]


def _feature_maps(evaluated: Evaluated, image: Tensor, layers: list[str]) -> list[dict[str, Any]]:
    """Some feature maps of some layers, evenly from the first to the last."""
    if not layers:
        return []
    chosen = [layers[i] for i in np.unique(np.linspace(0, len(layers) - 1, LAYERS).astype(int))]
    found = feature_maps(evaluated.classifier, image, chosen)
    return [
        {
            "layer": name,
            "picture": pictures.planes(found[name][0, :MAPS].cpu(), columns=8),
            "shown": min(MAPS, found[name].shape[1]),
            "count": found[name].shape[1],
            "size": f"{found[name].shape[2]} × {found[name].shape[3]}",
        }
        for name in chosen
    ]


def _kernels(evaluated: Evaluated, images: Tensor) -> dict[str, Any] | None:
    try:
        weights = first_kernels(evaluated.classifier, images[:1])
    except CannotExplain:
        return None
    count, channels, height, width = weights.shape
    shown = weights[:MAX_KERNELS].cpu()
    side = max(SPECTRUM_SIDE, height, width)
    return {
        "picture": pictures.kernels(shown),
        "spectra": pictures.planes(spectrum(shown.mean(dim=1), side)),
        "count": count,
        "shown": len(shown),
        "size": f"{height} × {width}",
        "channels": channels,
    }


SECTION = Section("Explanations", "explanations.html.jinja", find)
