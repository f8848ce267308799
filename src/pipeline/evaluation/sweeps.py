"""Figures of how a variant does over the values of something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline.evaluation.figures import LIGHT, SERIES, canvas

if TYPE_CHECKING:
    from pipeline.evaluation.robustness.attacks import Attacked
    from pipeline.evaluation.robustness.invariance import Held

PERCENT = PercentFormatter(1, decimals=0, symbol="\N{NARROW NO-BREAK SPACE}%")


def risk_over_coverage(curve: pd.DataFrame) -> Figure:
    """``curve`` as `abstention.risk_coverage` gives it."""
    figure, axes = canvas(height=3.0)
    axes.plot(curve["coverage"], curve["risk"], color=SERIES[0], drawstyle="steps-post")
    axes.set(xlim=(0, 1.01), xlabel="Answered images", ylabel="Mistakes among them")
    axes.set_ylim(0, 1.1 * max(0.02, float(curve["risk"].max())))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PERCENT)
    return figure


def accuracy_over_epsilon(attacked: Sequence[Attacked]) -> Figure:
    """A line and its interval for each attack."""
    figure, axes = canvas(height=3.0)
    for each, colour in zip(attacked, (SERIES[1], SERIES[0]), strict=False):
        low, value, high = (
            np.array([getattr(interval, end) for interval in each.accuracy], dtype=float)
            for end in ("low", "value", "high")
        )
        axes.fill_between(each.epsilons, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(each.epsilons, value, color=colour, label=each.title, marker="o", markersize=4)
    axes.set(ylim=(-0.02, 1.02), xlabel="Epsilon, grey levels of 255", ylabel="Accuracy")
    axes.yaxis.set_major_formatter(PERCENT)
    axes.legend()
    return figure


def held_over_values(held: Held) -> Figure:
    """Accuracy and consistency over the values of one invariance."""
    figure, axes = canvas(3.4, 2.5)
    values, names = held.invariance.values, held.invariance.names
    for heights, title, colour in (
        (held.accuracy, "Accuracy", SERIES[0]),
        (held.consistency, "Same class", SERIES[1]),
    ):
        mark: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 6} if names else {}
        axes.plot(values, heights, label=title, color=colour, **mark)
    axes.set(xlabel=held.invariance.axis[0].upper() + held.invariance.axis[1:], ylim=(-0.02, 1.04))
    axes.yaxis.set_major_formatter(PERCENT)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if names:
        axes.set_xticks(values, names)
        axes.margins(x=0.15)
        axes.tick_params(axis="x", colors=LIGHT["ink"])
    axes.legend(loc="lower center", ncols=2)
    return figure
