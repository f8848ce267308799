"""The curves of an evaluation as tables, for ``dvc plots`` and for the report's own figures.

A curve of more than two classes is the mean of each class against the rest (macro average).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_curve

from pipeline.vision.metrics import CALIBRATION_BINS, Floats, Sample

MAX_POINTS = 500
"""More than a plot can show; curves are thinned to it."""


def one_vs_rest(sample: Sample) -> list[int]:
    """The classes a curve can be drawn for: of two only class 1, and none absent or alone."""
    scored = [1] if sample.num_classes == 2 else range(sample.num_classes)
    present = np.bincount(sample.targets, minlength=sample.num_classes)
    return [k for k in scored if 0 < present[k] < len(sample)]


def roc(sample: Sample, target: int) -> pd.DataFrame:
    """The ROC curve of class ``target``: true_positive_rate over false_positive_rate, ascending."""
    false, true, _ = roc_curve(sample.targets == target, sample.probabilities[:, target])
    return _thinned(pd.DataFrame({"false_positive_rate": false, "true_positive_rate": true}))


def precision_recall(sample: Sample, target: int) -> pd.DataFrame:
    """The precision-recall curve of class ``target``, ascending in recall."""
    precision, recall, _ = precision_recall_curve(
        sample.targets == target, sample.probabilities[:, target]
    )
    return _thinned(pd.DataFrame({"recall": recall[::-1], "precision": precision[::-1]}))


def mean_roc(sample: Sample) -> pd.DataFrame:
    """The ROC curve of a variant: of the positive class, or the mean of all classes' curves."""
    return _mean([roc(sample, k) for k in one_vs_rest(sample)], ROC_COLUMNS)


def mean_precision_recall(sample: Sample) -> pd.DataFrame:
    """As `mean_roc`, of precision over recall."""
    return _mean([precision_recall(sample, k) for k in one_vs_rest(sample)], PR_COLUMNS)


def calibration(sample: Sample) -> pd.DataFrame:
    """The reliability diagram (Guo et al. 2017): a row for each bin of confidence with images."""
    bins, size = sample.calibration_bins, CALIBRATION_BINS
    images = np.bincount(bins, minlength=size)
    filled = np.flatnonzero(images)
    confidence = np.bincount(bins, sample.confidence, size)[filled] / images[filled]
    accuracy = np.bincount(bins, sample.correct, size)[filled] / images[filled]
    return pd.DataFrame(
        {
            "confidence": _rounded(confidence),
            "accuracy": _rounded(accuracy),
            "images": images[filled],
            "above": _rounded(filled / size),
            "up_to": _rounded((filled + 1) / size),
        }
    )


def confusion(sample: Sample, classes: tuple[str, ...]) -> pd.DataFrame:
    """A row for each image with the names of its class and of the predicted one."""
    names = np.array(classes, dtype=object)
    return pd.DataFrame({"actual": names[sample.targets], "predicted": names[sample.predicted]})


def training(history: pd.DataFrame) -> pd.DataFrame:
    """The training's history with a row for each epoch and split: epoch, split, loss, accuracy."""
    parts = [
        pd.DataFrame(
            {
                "epoch": history["epoch"],
                "split": split,
                "loss": history[f"{split}_loss"],
                "accuracy": history[f"{split}_accuracy"],
            }
        )
        for split in ("train", "val")
    ]
    return pd.concat(parts, ignore_index=True)


ROC_COLUMNS = ("false_positive_rate", "true_positive_rate")
PR_COLUMNS = ("recall", "precision")


def _mean(curves: list[pd.DataFrame], columns: tuple[str, str]) -> pd.DataFrame:
    """The curves' mean height; an empty table with the same columns if there is no curve."""
    x, y = columns
    if len(curves) == 1:
        return curves[0]
    if not curves:
        return pd.DataFrame({x: [], y: []}, dtype=float)
    grid = np.linspace(0, 1, 201)
    heights = [np.interp(grid, curve[x], curve[y]) for curve in curves]
    return pd.DataFrame({x: _rounded(grid), y: _rounded(np.mean(heights, axis=0))})


def _thinned(curve: pd.DataFrame) -> pd.DataFrame:
    if len(curve) > MAX_POINTS:
        kept = np.unique(np.linspace(0, len(curve) - 1, MAX_POINTS).round().astype(int))
        curve = curve.iloc[kept].reset_index(drop=True)
    return curve.apply(lambda column: _rounded(column.to_numpy(float)))


def _rounded(values: Floats) -> Floats:
    """Six decimals: as much as any plot shows, and the same text on every machine."""
    return values.round(6) + 0.0
