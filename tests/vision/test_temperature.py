from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from pipeline.artifacts import write_json
from pipeline.errors import PipelineError
from pipeline.vision.temperature import (
    COLDEST,
    HOTTEST,
    Calibration,
    fit_temperature,
    log_probabilities,
    read_temperature,
    rescale,
    softmax,
)

WEIGHTS = "a" * 64


def drawn(
    images: int, classes: int, temperature: float, *, scale: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and targets that are as likely as the logits at ``temperature`` say."""
    rng = np.random.default_rng(0)
    logits = scale * rng.normal(size=(images, classes))
    levels = softmax(logits, temperature).cumsum(axis=1)
    return logits, (rng.random((images, 1)) > levels).sum(axis=1).clip(max=classes - 1)


def likelihood(logits: np.ndarray, targets: np.ndarray, temperature: float) -> float:
    said = softmax(logits, temperature)[np.arange(len(targets)), targets]
    return float(-np.log(said.clip(1e-300)).mean())


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_made_the_targets_is_found(classes, temperature):
    logits, targets = drawn(20_000, classes, temperature)
    assert fit_temperature(logits, targets) == pytest.approx(temperature, rel=0.06)


@given(seed=st.integers(0, 10_000), images=st.integers(5, 60), scale=st.floats(0.01, 300))
@settings(max_examples=40, deadline=None)
def test_it_is_the_most_likely_one_within_its_bounds(seed, images, scale):
    rng = np.random.default_rng(seed)
    logits, targets = scale * rng.normal(size=(images, 3)), rng.integers(0, 3, images)
    if (logits.argmax(axis=1) == targets).all():
        return
    found = fit_temperature(logits, targets)
    bounds = (np.log(COLDEST), np.log(HOTTEST))
    best = minimize_scalar(
        lambda t: likelihood(logits, targets, np.exp(t)), bounds=bounds, method="bounded"
    )
    assert COLDEST <= found <= HOTTEST
    assert likelihood(logits, targets, found) <= best.fun + 1e-6


def test_a_network_without_a_mistake_keeps_its_probabilities():
    assert fit_temperature([[5.0, 0.0], [0.0, 5.0]], [0, 1]) == 1.0
    assert fit_temperature(np.zeros((0, 3)), []) == 1.0


def test_a_network_that_is_always_wrong_is_made_as_unsure_as_allowed():
    assert fit_temperature([[5.0, 0.0], [0.0, 5.0]], [1, 0]) == pytest.approx(HOTTEST)


@given(
    rows=st.lists(
        st.lists(st.floats(-80, 80, width=32), min_size=4, max_size=4), min_size=1, max_size=20
    ),
    temperature=st.floats(COLDEST, HOTTEST),
)
@settings(max_examples=80, deadline=None)
def test_no_temperature_changes_an_answer(rows, temperature):
    logits = np.array(rows, dtype=np.float32)
    said = softmax(logits, temperature)
    np.testing.assert_allclose(said.sum(axis=1), 1.0, atol=1e-9)
    answers = logits.argmax(axis=1)
    # What rounding makes equal may stand beside it, nothing above it.
    np.testing.assert_array_equal(said[np.arange(len(said)), answers], said.max(axis=1))


def test_softmax_of_large_logits_neither_overflows_nor_loses_its_sum():
    logits = np.array([[1e4, 0.0, -1e4], [3.0, 3.0, 3.0]], np.float32)
    np.testing.assert_allclose(softmax(logits), [[1, 0, 0], [1 / 3] * 3], atol=1e-12)


def test_probabilities_can_be_rescaled_without_their_logits():
    logits = np.random.default_rng(0).normal(size=(50, 4)) * 4
    said = softmax(logits).astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(rescale(said, 2.0), softmax(logits, 2.0), atol=1e-5)
    assert np.isfinite(log_probabilities(np.array([[1.0, 0.0]]))).all()


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    calibration = Calibration(1.234567, WEIGHTS)
    calibration.write(tmp_path / "calibration.json")
    assert Calibration.read(tmp_path / "calibration.json") == calibration
    assert read_temperature(tmp_path) == 1.234567
    assert read_temperature(tmp_path / "elsewhere") == 1.0


@pytest.mark.parametrize("content", [{}, [], {"temperature": 0, "weights_sha256": WEIGHTS}, None])
def test_a_damaged_calibration_is_refused(tmp_path, content):
    path = tmp_path / "calibration.json"
    if content is None:
        path.write_text("{")
    else:
        write_json(path, content)
    with pytest.raises(PipelineError, match=r"calibration\.json: expected a temperature"):
        Calibration.read(path)
