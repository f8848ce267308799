from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import auc

from pipeline.evaluation import curves
from pipeline.vision.metrics import METRICS, Sample, expected_calibration_error
from tests.evaluation.synthetic import make_history, make_sample


@pytest.mark.parametrize("classes", [2, 4])
def test_the_area_under_the_roc_curve_is_the_auroc(classes):
    sample = make_sample(300, classes)
    curve = curves.mean_roc(sample)
    area = auc(curve["false_positive_rate"], curve["true_positive_rate"])
    assert area == pytest.approx(METRICS["auroc"].of(sample), abs=0.005)


@pytest.mark.parametrize("curve", [curves.mean_roc, curves.mean_precision_recall])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_curve_ascends_within_the_unit_square_and_is_thin(curve, classes):
    table = curve(make_sample(3000, classes))
    x = table.iloc[:, 0]
    assert x.is_monotonic_increasing
    assert (x.iloc[0], x.iloc[-1]) == (0, 1)
    assert table.to_numpy().min() >= 0
    assert table.to_numpy().max() <= 1
    assert len(table) <= curves.MAX_POINTS


def test_images_of_one_class_have_no_curve():
    alone = Sample.of([1, 1], [[0.2, 0.8], [0.6, 0.4]])
    assert list(curves.mean_roc(alone).columns) == list(curves.ROC_COLUMNS)
    assert len(curves.mean_roc(alone)) == len(curves.mean_precision_recall(alone)) == 0


def test_the_reliability_diagram_adds_up_to_the_calibration_error():
    sample = make_sample(500, 3)
    bins = curves.calibration(sample)
    gaps = np.abs(bins["confidence"] - bins["accuracy"]) * bins["images"]
    assert bins["images"].sum() == 500
    assert gaps.sum() / 500 == pytest.approx(
        float(expected_calibration_error(sample.drawn())), abs=1e-5
    )
    assert (bins["above"] < bins["confidence"]).all()
    assert (bins["confidence"] <= bins["up_to"]).all()


def test_the_confusion_table_names_the_classes():
    sample = Sample.of([0, 1], [[0.1, 0.9], [0.1, 0.9]])
    table = curves.confusion(sample, ("bar", "disc"))
    assert table.to_dict("list") == {"actual": ["bar", "disc"], "predicted": ["disc", "disc"]}


def test_the_history_is_told_by_split():
    table = curves.training(make_history(3))
    assert list(table.columns) == ["epoch", "split", "loss", "accuracy"]
    assert list(table["split"]) == ["train"] * 3 + ["val"] * 3
    assert table.loc[3, "loss"] == pytest.approx(1.2)
