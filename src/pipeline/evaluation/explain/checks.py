"""How far a variant's maps can be believed, in the numbers that its report shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from pipeline.evaluation.explain.covers import COVERS
from pipeline.evaluation.explain.faithfulness import BATCH, REFERENCES, deletion_and_insertion
from pipeline.evaluation.explain.gradient import CannotExplain
from pipeline.evaluation.explain.integrated_gradients import (
    completeness_gap,
    integrated_gradients,
)
from pipeline.evaluation.explain.methods import METHODS
from pipeline.evaluation.explain.randomisation import cascade
from pipeline.vision.metrics import finite
from pipeline.vision.precision import autocast

FEW = 2
"""Images of the cascade: it explains each anew for every share of lost layers."""
SHARES = (0.5, 1.0)
REFERENCE_TITLES = {"random": "Random places", "sobel": "Edges (Sobel)"}


@dataclass(frozen=True)
class Checked:
    """What the checks say of a method, or of a map that knows nothing of the network."""

    title: str
    deletion: dict[str, float]
    """The mean area below the deletion curves by cover; less is better."""
    insertion: dict[str, float]
    """That of the insertion curves; more is better."""
    similarity: tuple[float, ...] | None
    """To its maps when shares `SHARES` of the layers are random; None of a reference."""


def check(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    maps: dict[str, Tensor],
    *,
    precision: str = "float32",
    batch_size: int = BATCH,
) -> list[Checked]:
    """The checks of each method's ``maps`` (N, 1, H, W) of ``images``, and of the references.

    ``precision`` is that of predictions, ``batch_size`` how many are made at a time; maps are
    always computed in ``float32``.
    """
    areas_of = partial(_areas, model, images, targets, precision, batch_size)
    covered = {name: cover(images) for name, cover in COVERS.items()}
    rows = []
    for name, method in METHODS.items():
        if name in maps:
            lost = cascade(model, images[:FEW], targets[:FEW], method.explain, shares=SHARES)
            areas = areas_of(maps[name], covered)
            rows.append(Checked(method.title, *areas, tuple(each.similarity for each in lost)))
    for name, reference in REFERENCES.items():
        areas = areas_of(reference(model, images, targets), covered)
        rows.append(Checked(REFERENCE_TITLES[name], *areas, None))
    return rows


def _areas(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    precision: str,
    batch_size: int,
    maps: Tensor,
    covered: dict[str, Tensor],
) -> tuple[dict[str, float], dict[str, float]]:
    deletion, insertion = {}, {}
    for name, cover in covered.items():
        with autocast(images.device, precision):
            curves = deletion_and_insertion(
                *(model, images, targets, maps, cover), batch_size=batch_size
            )
        deletion[name], insertion[name] = (float(area.mean()) for area in curves.areas())
    return deletion, insertion


def completeness(
    model: nn.Module, images: Tensor, targets: Tensor, maps: dict[str, Tensor]
) -> float | None:
    """The median gap of integrated gradients.

    None where they are not among ``maps``, or the logits do not differ from the baseline's.
    """
    name = next((key for key, each in METHODS.items() if each.explain is integrated_gradients), "")
    if name not in maps:
        return None
    return finite(completeness_gap(model, images, targets, maps[name]).median().item())


def explain_each(
    model: nn.Module, images: Tensor, targets: Tensor, methods: tuple[str, ...]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The maps of each method, and of those that do not apply to the network the reason."""
    maps, refused = dict[str, Tensor](), dict[str, str]()
    for name in methods:
        try:
            maps[name] = METHODS[name].explain(model, images, targets)
        except CannotExplain as error:
            refused[name] = str(error)
    return maps, refused
