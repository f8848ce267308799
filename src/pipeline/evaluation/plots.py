"""The plots of a report, one function each. A new plot is a function here and a line in `PLOTS`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, MultipleLocator, PercentFormatter

from pipeline.evaluation import curves
from pipeline.evaluation.figures import LIGHT, SERIES, canvas
from pipeline.vision.metrics import CALIBRATION_BINS, Floats, Sample, confusion_matrix

MAX_NAMED = 8
"""More classes than this are not told apart by colour."""
PERCENT = PercentFormatter(1, decimals=0, symbol="\N{NARROW NO-BREAK SPACE}%")
MAX_CELLS = 16
"""More classes than this leave no room for numbers in a confusion matrix."""


@dataclass(frozen=True)
class Subject:
    """What is plotted: one variant's predictions on the test images, and its training."""

    sample: Sample
    classes: tuple[str, ...]
    history: pd.DataFrame
    """A row an epoch: epoch, train_loss, val_loss, train_accuracy, val_accuracy."""


def roc(subject: Subject) -> Figure:
    """True positive rate over false positive rate, for every threshold."""
    figure, axes = canvas()
    axes.plot([0, 1], [0, 1], color=LIGHT["muted"], linewidth=0.8, linestyle=(0, (3, 3)))
    _one_vs_rest(axes, subject, curves.roc, curves.mean_roc, curves.ROC_COLUMNS)
    _rates(axes, "False positive rate", "True positive rate")
    return figure


def precision_recall(subject: Subject) -> Figure:
    """Precision over recall, for every threshold."""
    figure, axes = canvas()
    if subject.sample.num_classes == 2 and len(subject.sample):
        share = float((subject.sample.targets == 1).mean())
        axes.axhline(share, color=LIGHT["muted"], linewidth=0.8, linestyle=(0, (3, 3)))
    _one_vs_rest(
        axes, subject, curves.precision_recall, curves.mean_precision_recall, curves.PR_COLUMNS
    )
    _rates(axes, "Recall", "Precision")
    return figure


def confusion(subject: Subject) -> Figure:
    """Counts, and their share of the true class as the cell's shade."""
    cells = confusion_matrix(subject.sample)
    size = len(cells)
    whole = cells.sum(axis=1, keepdims=True)
    shares = np.divide(cells, whole, out=np.zeros(cells.shape), where=whole > 0)
    side = float(np.clip(1.6 + 0.62 * size, 3.0, 9.0))
    figure, axes = canvas(side + 0.7, side)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
    if size > MAX_CELLS:
        axes.imshow(_shades(shares), interpolation="none")
    else:
        for row, column in np.ndindex(size, size):
            axes.add_patch(_cell(row, column, float(shares[row, column])))
            _cell_text(axes, row, column, int(cells[row, column]), float(shares[row, column]))
    axes.set(xlabel="Predicted", ylabel="True")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    every = max(1, size // 40)
    names = [_short(name) for name in subject.classes]
    turned = max(map(len, names)) * size > 44
    axes.set_xticks(range(0, size, every), names[::every], rotation=90 if turned else 0)
    axes.set_yticks(range(0, size, every), names[::every])
    axes.tick_params(colors=LIGHT["ink"])
    return figure


def calibration(subject: Subject) -> Figure:
    """Accuracy over confidence, and below it how many images have that confidence."""
    figure = Figure(figsize=(4.7, 3.9), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    bins = curves.calibration(subject.sample)
    upper.plot([0, 1], [0, 1], color=LIGHT["muted"], linewidth=0.8, linestyle=(0, (3, 3)))
    for each in bins.itertuples():
        upper.plot([each.confidence] * 2, [each.confidence, each.accuracy], color=SERIES[1], lw=1.2)
    upper.plot(bins["confidence"], bins["accuracy"], marker="o", markersize=4.5, color=SERIES[0])
    bars = {"width": 1 / CALIBRATION_BINS, "align": "edge", "alpha": 0.45}
    lower.bar(bins["above"], bins["images"], color=SERIES[0], **bars)
    _rates(upper, "", "Accuracy")
    left, bottom = (math.floor(10 * float(bins[each].min())) / 10 for each in ("above", "accuracy"))
    upper.set(xlim=(left - 0.01, 1.01), ylim=(min(left, bottom) - 0.02, 1.02))
    for axis in (upper.xaxis, upper.yaxis):
        axis.set_major_locator(MultipleLocator(0.1 if left >= 0.4 else 0.2))
    lower.set(xlabel="Confidence", ylabel="Images")
    lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    lower.xaxis.set_major_formatter(PERCENT)
    figure.align_ylabels()
    return figure


def loss(subject: Subject) -> Figure:
    """Loss of training and validation images after each epoch."""
    figure, axes = _history(subject.history, "loss")
    axes.set(ylabel="Loss", ylim=(0, 1.05 * axes.get_ylim()[1]))
    return figure


def accuracy(subject: Subject) -> Figure:
    """Accuracy on training and validation images after each epoch."""
    figure, axes = _history(subject.history, "accuracy")
    axes.set(ylabel="Accuracy")
    axes.yaxis.set_major_formatter(PERCENT)
    return figure


def _history(history: pd.DataFrame, what: str) -> tuple[Figure, Axes]:
    figure, axes = canvas(height=3.0)
    mark = "o" if len(history) == 1 else None  # a line of one point is no line
    for split, title, colour in (
        ("train", "Training", SERIES[1]),
        ("val", "Validation", SERIES[0]),
    ):
        values = history[f"{split}_{what}"]
        axes.plot(history["epoch"], values, label=title, color=colour, marker=mark)
    axes.set(xlabel="Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.legend()
    return figure, axes


def _one_vs_rest(
    axes: Axes,
    subject: Subject,
    curve: Callable[[Sample, int], pd.DataFrame],
    mean: Callable[[Sample], pd.DataFrame],
    columns: tuple[str, str],
) -> None:
    """The curve of each class, or with many classes all of them faintly and their mean."""
    x, y = columns
    drawn = curves.one_vs_rest(subject.sample)
    many = len(drawn) > MAX_NAMED
    for i, k in enumerate(drawn):
        points = curve(subject.sample, k)
        faint = {"color": LIGHT["muted"], "linewidth": 0.6, "alpha": 0.5}
        clear = {"color": SERIES[i % len(SERIES)], "label": _short(subject.classes[k])}
        axes.plot(points[x], points[y], **(faint if many else clear))
    if many:
        points = mean(subject.sample)
        axes.plot(points[x], points[y], color=SERIES[0], label=f"mean of {len(drawn)} classes")
    if drawn:
        axes.legend(loc="lower right" if x == "false_positive_rate" else "lower left")


def _rates(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xlabel=x, ylabel=y)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(PERCENT)


def _strength(share: Floats | float) -> Floats | float:
    """How opaque a cell is: half at most, so that text is readable on it, on light and dark."""
    return 0.06 + 0.5 * share


def _shades(shares: Floats) -> Floats:
    """(K, K, 4): cells as pixels, right predictions in one colour, mistakes in another."""
    right = np.eye(len(shares), dtype=bool)[..., None]
    colours = np.where(right, to_rgb(SERIES[0]), to_rgb(SERIES[1]))
    return np.concatenate([colours, np.asarray(_strength(shares))[..., None]], axis=-1)


def _cell(row: int, column: int, share: float) -> Rectangle:
    """One cell as a square, whose colour the page may change."""
    colour = SERIES[0] if row == column else SERIES[1]
    corner = (column - 0.48, row - 0.48)
    return Rectangle(corner, 0.96, 0.96, color=colour, alpha=float(_strength(share)), linewidth=0)


def _cell_text(axes: Axes, row: int, column: int, count: int, share: float) -> None:
    if not count:
        axes.text(column, row, "0", ha="center", va="center", color=LIGHT["muted"])
        return
    number = axes.text(column, row - 0.02, f"{count:,}", fontsize=12, va="bottom")
    part = axes.text(
        column, row + 0.05, f"{100 * share:.0f}\N{NARROW NO-BREAK SPACE}%", fontsize=9, va="top"
    )
    for text in (number, part):
        text.set(ha="center", color=LIGHT["ink"])


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"


@dataclass(frozen=True)
class Plot:
    """A plot, the section of the report it stands in, and how to read it."""

    title: str
    section: str
    draw: Callable[[Subject], Figure]
    caption: str


PLOTS: dict[str, Plot] = {
    "roc": Plot(
        "ROC",
        "curves",
        roc,
        "Further to the upper left is better; the dashed diagonal is guessing.",
    ),
    "precision_recall": Plot(
        "Precision and recall",
        "curves",
        precision_recall,
        "Further to the upper right is better; a dashed line is guessing.",
    ),
    "confusion": Plot(
        "Confusion matrix",
        "confusion",
        confusion,
        "Images of the row's class that were taken for the column's, and their share of the row.",
    ),
    "calibration": Plot(
        "Reliability",
        "calibration",
        calibration,
        "On the dashed diagonal confidence is as high as accuracy; below it the model is too sure."
        " The bars count the images.",
    ),
    "loss": Plot("Loss", "training", loss, "Mean over the images, after each epoch."),
    "accuracy": Plot(
        "Accuracy", "training", accuracy, "Training images are seen with random augmentation."
    ),
}
"""The name is that of the PNG beside the report, and of the plot in MLflow."""
