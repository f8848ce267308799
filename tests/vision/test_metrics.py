from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from torchmetrics.classification import MulticlassCalibrationError

from pipeline.vision.metrics import (
    CALIBRATION_BINS,
    METRICS,
    Sample,
    confusion_matrix,
    expected_calibration_error,
    finite,
    precision,
    recall,
)


@st.composite
def samples(draw: st.DrawFn, min_images: int = 1) -> Sample:
    """Samples with ties, absent classes, and classes that are never predicted."""
    images = draw(st.integers(min_images, 30))
    classes = draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scores = rng.integers(1, draw(st.integers(2, 50)), (images, classes)).astype(float)
    present = rng.choice(classes, draw(st.integers(1, classes)), replace=False)
    return Sample.of(
        rng.choice(present, images),
        scores / scores.sum(axis=1, keepdims=True),
        rng.random(images) + 0.01,
    )


def sklearn_auroc(sample: Sample) -> float:
    scored = [1] if sample.num_classes == 2 else range(sample.num_classes)
    areas = [
        sklearn.roc_auc_score(sample.targets == k, sample.probabilities[:, k])
        for k in scored
        if 0 < (sample.targets == k).sum() < len(sample)
    ]
    return float(np.mean(areas)) if areas else math.nan


REFERENCES = {
    "accuracy": lambda s: sklearn.accuracy_score(s.targets, s.predicted),
    "balanced_accuracy": lambda s: sklearn.recall_score(
        s.targets, s.predicted, labels=np.unique(s.targets), average="macro"
    ),
    "weighted_accuracy": lambda s: sklearn.accuracy_score(
        s.targets, s.predicted, sample_weight=s.weights
    ),
    "macro_f1": lambda s: sklearn.f1_score(s.targets, s.predicted, average="macro"),
    "auroc": sklearn_auroc,
    "log_loss": lambda s: sklearn.log_loss(
        s.targets, s.probabilities, labels=np.arange(s.num_classes)
    ),
}


@pytest.mark.parametrize("name", METRICS)
@given(sample=samples())
@settings(max_examples=30, deadline=None)
def test_a_metric_is_what_scikit_learn_says(name, sample):
    assert METRICS[name].of(sample) == pytest.approx(REFERENCES[name](sample), nan_ok=True)


@given(sample=samples())
@settings(max_examples=30, deadline=None)
def test_precision_and_recall_are_what_scikit_learn_says(sample):
    known = {"labels": np.arange(sample.num_classes), "average": None, "zero_division": np.nan}
    for function, reference in (
        (precision, sklearn.precision_score),
        (recall, sklearn.recall_score),
    ):
        expected = reference(sample.targets, sample.predicted, **known)
        np.testing.assert_allclose(function(sample.drawn()), expected)


@given(sample=samples())
@settings(max_examples=30, deadline=None)
def test_calibration_error_is_what_torchmetrics_says(sample):
    reference = MulticlassCalibrationError(sample.num_classes, n_bins=CALIBRATION_BINS)
    expected = reference(torch.tensor(sample.probabilities), torch.tensor(sample.targets))
    confidence = sample.confidence * CALIBRATION_BINS
    if np.abs(confidence - confidence.round()).min() > 1e-5:  # float32 may step over a border
        error = float(expected_calibration_error(sample.drawn()))
        assert error == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("name", [*METRICS, "ece"])
@given(sample=samples(), seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_counting_an_image_twice_is_having_it_twice(name, sample, seed):
    function = METRICS[name].function if name in METRICS else expected_calibration_error
    counts = np.random.default_rng(seed).integers(0, 4, (3, len(sample)))
    counts[:, 0] += 1
    together = function(sample.drawn(counts))
    assert together.shape == (3,)
    for row, value in zip(counts, together, strict=True):
        repeated = sample[np.repeat(np.arange(len(sample)), row)]
        assert value == pytest.approx(float(function(repeated.drawn())), nan_ok=True, abs=1e-6)


@given(sample=samples())
@settings(max_examples=30, deadline=None)
def test_the_confusion_matrix_is_what_scikit_learn_says(sample):
    labels = np.arange(sample.num_classes)
    expected = sklearn.confusion_matrix(sample.targets, sample.predicted, labels=labels)
    np.testing.assert_array_equal(confusion_matrix(sample), expected)


@pytest.mark.parametrize("name", [*METRICS, "ece", "precision", "recall"])
@pytest.mark.parametrize("images", [0, 1, 5])
def test_a_sample_of_one_class_or_none_neither_warns_nor_fails(name, images):
    functions = {"ece": expected_calibration_error, "precision": precision, "recall": recall}
    function = METRICS[name].function if name in METRICS else functions[name]
    sample = Sample.of(np.zeros(images, int), np.full((images, 3), 1 / 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function(sample.drawn())
        function(sample.drawn(np.zeros((2, images))))


def test_what_the_images_leave_undefined_is_null_in_json():
    alone = Sample.of([0, 0], [[0.9, 0.1], [0.2, 0.8]])
    assert finite(METRICS["auroc"].of(alone)) is None
    assert [finite(value) for value in recall(alone.drawn())] == [0.5, None]
    assert finite(METRICS["balanced_accuracy"].of(alone)) == 0.5
    assert [finite(METRICS[name].of(alone[np.array([], int)])) for name in METRICS] == [None] * 6


def test_a_class_without_images_is_left_out_of_the_means():
    three = Sample.of([0, 0, 1, 1], np.eye(3)[[0, 1, 1, 1]])
    assert METRICS["balanced_accuracy"].of(three) == pytest.approx(0.75)
    assert METRICS["macro_f1"].of(three) == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_equal_scores_count_half():
    tied = Sample.of([0, 1, 0, 1], [[0.5, 0.5]] * 4)
    assert METRICS["auroc"].of(tied) == 0.5


def test_a_certain_mistake_costs_a_finite_log_loss():
    wrong = Sample.of([0], [[0.0, 1.0]])
    assert 15 < METRICS["log_loss"].of(wrong) < 17


def test_weights_are_the_trust_in_a_label():
    sample = Sample.of([0, 1], [[1.0, 0.0], [1.0, 0.0]], weights=[1.0, 0.25])
    assert METRICS["weighted_accuracy"].of(sample) == pytest.approx(0.8)
    unknown = Sample.of([0, 1], [[1.0, 0.0], [1.0, 0.0]], weights=[0.0, 0.0])
    assert finite(METRICS["weighted_accuracy"].of(unknown)) is None


def test_tensors_are_taken_as_arrays_are():
    sample = Sample.of(torch.tensor([0, 1]), torch.tensor([[0.9, 0.1], [0.3, 0.7]]))
    assert METRICS["accuracy"].of(sample) == 1.0


@pytest.mark.parametrize(
    ("targets", "probabilities", "weights"),
    [
        ([0, 1], [[1.0, 0.0]], None),
        ([0], [1.0], None),
        ([0], [[1.0, 0.0]], [1.0, 1.0]),
        ([2], [[1.0, 0.0]], None),
        ([-1], [[1.0, 0.0]], None),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(targets, probabilities, weights):
    with pytest.raises(ValueError, match="must"):
        Sample.of(targets, probabilities, weights)
