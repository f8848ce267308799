"""Several models on one page: quality, cost, robustness, and on which images they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.evaluation import figures
from pipeline.evaluation.bootstrap import Interval
from pipeline.evaluation.duel import Duel
from pipeline.evaluation.page import Drawing, Picture, draw, render_page
from pipeline.evaluation.pareto import Offer, draw_front
from pipeline.evaluation.robustness.mce import mean_corruption_error
from pipeline.vision.metrics import METRICS

COSTS = {
    "multiply_adds": "Multiply-adds an image",
    "batch_64_ms": "Milliseconds for 64 images",
}
"""What the Pareto fronts are drawn over: from the section ``cost`` and its timings."""


@dataclass(frozen=True)
class Entry:
    """A model as the page compares it."""

    name: str
    metrics: Mapping[str, Mapping[str, Interval]]
    """By split and name."""
    parameters: int
    cost: Mapping[str, Any] | None = None
    """`cost.Cost` as JSON, where it was measured."""
    timings: Mapping[str, Any] | None = None
    """Of this machine, where they are at hand."""
    corruptions: Mapping[str, Any] | None = None
    """`corruptions.Corrupted` as JSON, where it was measured."""


@dataclass(frozen=True)
class Page:
    """What a comparison is about."""

    title: str
    eyebrow: str
    headline: str
    points: Sequence[str]
    metric: str
    """By which models are chosen, a key of `METRICS`."""
    reference: str
    """The entry whose errors under corruption count as 1."""


def corruption_errors(entries: Sequence[Entry], reference: str) -> dict[str, float | None]:
    """The mean corruption error of each entry that has one, against ``reference``."""
    against = next((each.corruptions for each in entries if each.name == reference), None)
    if against is None:
        return {}
    return {
        each.name: mean_corruption_error(each.corruptions["errors"], against["errors"])
        for each in entries
        if each.corruptions is not None and each.corruptions["images"] == against["images"]
    }


def render_comparison(page: Page, entries: Sequence[Entry], duels: Sequence[Duel]) -> str:
    """The page's HTML, which needs nothing else.

    Args:
        page: its words.
        entries: the models, the best first.
        duels: pairs of them on the test images.
    """
    return render_page(
        "comparison.html.jinja",
        page=page,
        metrics=METRICS,
        entries=entries,
        duels=duels,
        pictures=_fronts(page.metric, entries),
        mce=corruption_errors(entries, page.reference),
    )


def _fronts(metric: str, entries: Sequence[Entry]) -> list[Picture]:
    quality = METRICS[metric]
    drawings = []
    for name, title in COSTS.items():
        offers = [
            Offer(each.name, float(source[name]), each.metrics["val"][metric])
            for each in entries
            for source in (each.cost, each.timings)
            if source is not None and name in source
        ]
        if len(offers) > 1:
            caption = (
                f"{quality.title} on the validation images. The line joins what no other beats in"
                " both."
            )
            make = partial(draw_front, offers, title, quality.title, in_percent=quality.in_percent)
            drawings.append(
                Drawing(f"front_{name}", f"Quality over {title.lower()}", caption, make)
            )
    names = ", ".join(each.name for each in entries)
    with figures.style():
        return [draw(drawing, names)[0] for drawing in drawings]
