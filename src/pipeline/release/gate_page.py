"""The gate's own report: challenger and champion beside each other on the images that count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.bootstrap import Resampling, bootstrap
from pipeline.evaluation.comparison import Entry, Page, render_comparison
from pipeline.evaluation.duel import duel
from pipeline.release.gate import Candidate, Images, Split, Verdict
from pipeline.vision.metrics import METRICS

SPLITS: tuple[Split, ...] = ("val", "test")


@dataclass(frozen=True)
class Side:
    """A model before the gate, and what it costs."""

    name: str
    candidate: Candidate
    parameters: int
    cost: Mapping[str, Any] | None
    """`evaluation.cost.Cost` as JSON, where it was measured."""


def render_gate(
    verdict: Verdict,
    challenger: Side,
    champion: Side,
    images: Mapping[Split, Images],
    metric: str,
    resampling: Resampling,
) -> str | None:
    """One HTML page on the images that are new to the champion; ``None`` where there are none."""
    new = {
        split: np.array([i not in champion.candidate.trained_on for i in each.image_ids], bool)
        for split, each in images.items()
    }
    if not all(mask.any() for mask in new.values()):
        return None
    sides = (challenger, champion)
    samples = {
        split: [each.sample(side.candidate.probabilities(split))[new[split]] for side in sides]
        for split, each in images.items()
    }
    entries = [
        Entry(
            side.name,
            {split: bootstrap(samples[split][i], METRICS, resampling) for split in SPLITS},
            side.parameters,
            cost=side.cost,
        )
        for i, side in enumerate(sides)
    ]
    fight = duel(
        (challenger.name, champion.name),
        (samples["test"][0], samples["test"][1]),
        images["test"].file_names[new["test"]].tolist(),
        challenger.candidate.classes,
        metric=metric,
        resampling=resampling,
    )
    headline = (
        f"{challenger.name} takes the place of the {champion.name}."
        if verdict.passed
        else f"{challenger.name} does not pass: the {champion.name}, stays."
    )
    points = [f"{reason[0].upper()}{reason[1:]}." for reason in verdict.reasons]
    page = Page("Challenger and champion", "The gate", headline, points, metric, champion.name)
    return render_comparison(page, entries, [fight])
