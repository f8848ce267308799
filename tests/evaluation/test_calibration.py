from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from pipeline.evaluation.calibration import CALIBRATION, calibrated, fit
from pipeline.vision.metrics import Sample, expected_calibration_error
from pipeline.vision.temperature import rescale
from tests.evaluation.synthetic import make_sample


def test_brier_is_the_squared_distance_from_the_truth():
    sample = make_sample(300, 2)
    theirs = brier_score_loss(sample.targets, sample.probabilities[:, 1])
    assert CALIBRATION["brier"].of(sample) == pytest.approx(2 * theirs)
    certain = Sample.of([0, 2], np.eye(3)[[0, 1]])
    assert CALIBRATION["brier"].of(certain) == pytest.approx((0 + 2) / 2)


def test_the_maximum_error_is_that_of_the_worst_bin():
    confidence = np.repeat([0.95, 0.65], [20, 10])
    right = np.repeat([1, 0, 1, 0], [18, 2, 2, 8])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    sample = Sample.of(1 - right, probabilities)
    assert CALIBRATION["mce"].of(sample) == pytest.approx(0.65 - 0.2)
    expected = (20 * 0.05 + 10 * 0.45) / 30
    assert float(expected_calibration_error(sample.drawn())) == pytest.approx(expected)


def test_a_network_that_is_too_sure_is_calibrated():
    honest = make_sample(6000, 3, skill=1.0)
    sure = Sample(honest.targets, rescale(honest.probabilities, 0.3), honest.weights)
    temperature = fit(sure[np.arange(3000)])
    assert temperature > 1.5
    unseen = sure[np.arange(3000, 6000)]
    mended = calibrated(unseen, temperature)
    for name, metric in CALIBRATION.items():
        assert metric.of(mended) < metric.of(unseen), name
    np.testing.assert_array_equal(mended.predicted, unseen.predicted)


@pytest.mark.parametrize("name", CALIBRATION)
def test_nothing_is_said_of_no_images(name):
    assert np.isnan(CALIBRATION[name].of(make_sample(5, 2)[np.array([], int)]))
