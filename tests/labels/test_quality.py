"""Confident learning against numbers worked out by hand."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest

from pipeline.labels.quality import measure_quality

TARGETS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
P_ONE = np.array([0.1, 0.2, 0.3, 0.9, 0.9, 0.8, 0.7, 0.05])
PROBABILITIES = np.column_stack([1 - P_ONE, P_ONE])


def test_thresholds_joint_and_flags_are_those_of_the_paper():
    quality = measure_quality(TARGETS, PROBABILITIES)
    # The mean probability of its own class among the images labelled so.
    assert quality.thresholds.tolist() == pytest.approx(
        [(0.9 + 0.8 + 0.7 + 0.1) / 4, (0.9 + 0.8 + 0.7 + 0.05) / 4]
    )
    # Confident of class 0 (from 0.625 on): rows 0, 1, 2 and 7; of class 1 (from 0.6125): the rest.
    assert quality.joint.tolist() == [[3, 1], [1, 3]]
    assert np.flatnonzero(quality.issue).tolist() == [3, 7]
    assert quality.noise == pytest.approx(2 / 8)
    (first, second) = quality.pairs()
    assert (first.given, first.actual, first.images, first.share, first.flagged) == (
        0,
        1,
        1,
        0.25,
        1,
    )
    assert (second.given, second.actual) == (1, 0)


def test_the_margin_is_that_to_the_likeliest_other_class():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]] * 4)
    quality = measure_quality(np.array([0, 1, 2] * 4), probabilities)
    assert quality.quality[:3].tolist() == pytest.approx(
        [(1 + 0.5 - 0.3) / 2, (1 + 0.2 - 0.7) / 2, (1 + 0.1 - 0.6) / 2]
    )
    assert quality.p_given[:3].tolist() == pytest.approx([0.5, 0.2, 0.1])
    assert quality.suggested[:3].tolist() == [0, 2, 0]


def test_doubt_begins_with_the_flagged_and_falls_from_there():
    quality = measure_quality(TARGETS, PROBABILITIES)
    assert quality.order.tolist() == [7, 3, 2, 6, 1, 5, 0, 4]


def noisy(share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and which labels are wrong: class 0 called class 2."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 3000)
    probabilities = rng.dirichlet(np.full(3, 0.5), 3000) * 0.4
    probabilities[np.arange(3000), truth] += 0.6
    wrong = (truth == 0) & (rng.random(3000) < share)
    return np.where(wrong, 2, truth), probabilities, wrong


def test_an_unsure_network_that_agrees_is_less_of_a_doubt_than_one_that_does_not():
    sure = np.repeat(np.eye(4) * 0.8 + 0.05, 6, axis=0)
    unsure, contrary = [0.28, 0.24, 0.24, 0.24], [0.3, 0.6, 0.05, 0.05]
    labels = np.r_[np.repeat(np.arange(4), 6), 0, 0]
    quality = measure_quality(labels, np.vstack([sure, unsure, contrary]))
    assert not quality.issue[24]
    flagged = dataclasses.replace(quality, issue=np.arange(26) == 25)
    assert flagged.order[:2].tolist() == [25, 24]


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_flips_of_one_direction_are_found_and_counted(share):
    labels, probabilities, wrong = noisy(share)
    quality = measure_quality(labels, probabilities)
    # A label counts only where the network is as sure as it usually is, hence fewer than there are.
    assert 0.6 * wrong.mean() < quality.noise < 1.1 * wrong.mean()
    assert quality.issue[wrong].mean() > 0.6
    assert wrong[quality.issue].mean() > 0.98
    assert (quality.suggested[quality.issue & wrong] == 0).all()
    (pair, *_) = quality.pairs()
    assert (pair.given, pair.actual) == (2, 0)
    assert quality.joint.sum(axis=1).tolist() == np.bincount(labels).tolist()


def test_sound_labels_are_not_flagged():
    labels, probabilities, _ = noisy(0.0)
    quality = measure_quality(labels, probabilities)
    assert not quality.issue.any()
    assert quality.pairs() == []


def test_a_class_without_images_is_no_trouble():
    probabilities = np.column_stack([PROBABILITIES * 0.9, np.full(8, 0.1)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quality = measure_quality(TARGETS, probabilities)
    assert np.flatnonzero(quality.issue).tolist() == [3, 7]
    told = quality.as_json(["a", "b", "none"])
    assert told["thresholds"]["none"] is None
    assert told["joint"]["none"] == {"a": 0, "b": 0, "none": 0}
    assert told["issues"] == 2
    assert told["out_of_fold"]["accuracy"] == 0.75
