from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.abstention import AURC, find, risk_coverage
from pipeline.vision.metrics import Drawn, Sample
from tests.evaluation.synthetic import make_evaluated, make_params, make_sample


def sample_of(confidence: list[float], right: list[int]) -> Sample:
    sure = np.array(confidence)
    return Sample.of(1 - np.array(right), np.stack([sure, 1 - sure], axis=1))


def test_the_curve_and_its_area_are_worked_out_by_hand():
    sample = sample_of([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1])
    curve = risk_coverage(sample)
    assert curve["coverage"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve["risk"].tolist() == pytest.approx([0, 0, 1 / 3, 1 / 4])
    assert AURC.of(sample) == pytest.approx((0 + 0 + 1 / 3 + 1 / 4) / 4)


def test_equal_confidence_is_answered_together():
    sample = sample_of([0.9, 0.7, 0.7], [1, 0, 1])
    assert risk_coverage(sample)["coverage"].tolist() == pytest.approx([1 / 3, 1.0])
    assert AURC.of(sample) == pytest.approx((0 + 1 / 3 + 1 / 3) / 3)
    alike = sample_of([0.8] * 5, [1, 1, 1, 0, 0])
    assert AURC.of(alike) == pytest.approx(0.4)


def test_confidence_that_tells_right_from_wrong_has_less_area():
    sample = make_sample(500, 3)
    shuffled = Sample.of(
        sample.targets, sample.probabilities[:, [1, 2, 0]], sample.weights
    )  # as confident, of other classes
    assert AURC.of(sample) < 1 - sample.correct.mean()
    assert AURC.of(sample) < AURC.of(shuffled)


def test_the_area_of_a_resample_is_that_of_its_images():
    sample = make_sample(60, 3)
    counts = np.random.default_rng(0).integers(0, 3, (20, 60)).astype(np.float32)
    areas = AURC.function(Drawn(sample, counts))
    for row, area in zip(counts, areas, strict=True):
        repeated = sample[np.repeat(np.arange(60), row.astype(int))]
        assert area == pytest.approx(AURC.of(repeated), abs=1e-6)


def test_the_verdict_speaks_of_abstention_only_where_some_images_are_left_out(
    tmp_path, monkeypatch
):
    evaluated = make_evaluated(make_params(tmp_path))
    (point,) = find(evaluated).points
    assert "least sure of" in point.text
    surest = sample_of([0.999] * 5 + [0.998], [1, 1, 1, 1, 1, 0])
    samples = {**evaluated.predictions.samples, "test": surest}
    monkeypatch.setitem(vars(evaluated.predictions), "samples", samples)
    assert find(evaluated).points == ()


def test_of_no_images_there_is_no_area():
    nothing = make_sample(4, 2)[np.array([], int)]
    assert np.isnan(AURC.of(nothing))
    assert risk_coverage(nothing).empty
