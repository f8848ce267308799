"""Quality beside cost: which models no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from pipeline.evaluation.bootstrap import Interval
from pipeline.evaluation.figures import LIGHT, SERIES, canvas
from pipeline.evaluation.wording import count, percent


@dataclass(frozen=True)
class Offer:
    """A model by what it costs (lower is better) and how good it is (higher is better)."""

    name: str
    cost: float
    quality: Interval


def front(offers: Sequence[Offer]) -> list[Offer]:
    """The Pareto front by rising cost: offers that none is as cheap and as good as, or better.

    Of offers that are equal in both, all are on it.
    """
    known = [offer for offer in offers if offer.quality.value is not None]
    kept = [offer for offer in known if not any(_beats(other, offer) for other in known)]
    return sorted(kept, key=lambda offer: (offer.cost, offer.name))


def _beats(one: Offer, other: Offer) -> bool:
    a, b = (one.cost, -(one.quality.value or 0.0)), (other.cost, -(other.quality.value or 0.0))
    return a != b and a[0] <= b[0] and a[1] <= b[1]


def draw_front(
    offers: Sequence[Offer], cost: str, quality: str, *, in_percent: bool = False
) -> Figure:
    """Each offer with its interval; those on the front are joined and stand out."""
    figure, axes = canvas(height=3.4)
    best = front(offers)
    axes.plot(
        [offer.cost for offer in best],
        np.array([offer.quality.value for offer in best], dtype=float),
        color=SERIES[0],
        drawstyle="steps-post",
        linewidth=1.2,
    )
    for offer in offers:
        if offer.quality.value is None:
            continue
        colour = SERIES[0] if offer in best else LIGHT["muted"]
        if offer.quality.low is not None and offer.quality.high is not None:
            ends = [offer.quality.low, offer.quality.high]
            axes.plot([offer.cost] * 2, ends, color=colour, linewidth=1.2, alpha=0.5)
        axes.plot([offer.cost], [offer.quality.value], marker="o", markersize=6, color=colour)
        axes.annotate(
            offer.name,
            (offer.cost, offer.quality.value),
            xytext=(7, 5),
            textcoords="offset points",
            color=LIGHT["ink"] if offer in best else LIGHT["muted"],
            fontsize=9,
        )
    axes.set_xscale("log")
    axes.margins(x=0.25)
    axes.set(xlabel=cost, ylabel=quality)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if in_percent:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value, 0)))
    return figure
