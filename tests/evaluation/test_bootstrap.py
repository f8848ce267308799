from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluation.bootstrap import (
    CHUNK,
    Interval,
    Resampling,
    bootstrap,
    bootstrap_vectors,
    draws,
    paired_bootstrap,
    share_of,
)
from pipeline.vision.metrics import (
    METRICS,
    Metric,
    Sample,
    expected_calibration_error,
    precision,
    recall,
)
from tests.evaluation.synthetic import make_sample

QUICK = Resampling(resamples=400, confidence=0.95, seed=0)


def test_a_resample_has_as_many_images_as_the_sample():
    counts = np.concatenate(list(draws(37, QUICK)))
    assert counts.shape == (400, 37)
    assert (counts.sum(axis=1) == 37).all()
    assert abs((counts == 0).mean() - (1 - 1 / 37) ** 37) < 0.01


def test_draws_are_held_in_bounded_chunks_and_do_not_depend_on_them():
    images = CHUNK // 10
    chunks = list(draws(images, Resampling(25, 0.95, 3)))
    assert [len(chunk) for chunk in chunks] == [10, 10, 5]
    assert len(next(draws(3 * CHUNK, QUICK))) == 1
    expected = np.random.default_rng(3).integers(0, images, (25, images), dtype=np.uint32)
    for counts, cells in zip(np.concatenate(chunks), expected, strict=True):
        np.testing.assert_array_equal(counts, np.bincount(cells, minlength=images))


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("classes", [2, 4])
def test_intervals_are_those_of_resampling_image_by_image(name, classes):
    sample = make_sample(120, classes)
    measured = bootstrap(sample, {name: METRICS[name]}, QUICK)[name]
    values = [
        METRICS[name].of(sample[np.repeat(np.arange(len(sample)), row.astype(int))])
        for row in np.concatenate(list(draws(len(sample), QUICK)))
    ]
    low, high = np.nanquantile(values, [0.025, 0.975])
    assert measured.value == pytest.approx(METRICS[name].of(sample), abs=1e-6)
    assert (measured.low, measured.high) == pytest.approx((low, high), abs=2e-6)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth, covered = 0.8, 0
    for seed in range(200):
        right = rng.random(150) < truth
        sample = Sample.of(np.zeros(150, int), np.where(right[:, None], [0.9, 0.1], [0.1, 0.9]))
        interval = bootstrap(sample, {"accuracy": METRICS["accuracy"]}, Resampling(300, 0.9, seed))[
            "accuracy"
        ]
        covered += interval.low <= truth <= interval.high
    assert 0.83 <= covered / 200 <= 0.96


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not():
    sample = make_sample(90, 3)
    first, again, other = (
        bootstrap(sample, METRICS, Resampling(300, 0.95, seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_an_interval_holds_its_value_even_where_resampling_is_biased():
    sample = make_sample(60, 2)
    error = {"ece": Metric("ECE", expected_calibration_error)}
    interval = bootstrap(sample, error, QUICK)["ece"]
    assert interval.low <= interval.value <= interval.high


def test_a_class_that_a_resample_misses_is_judged_by_the_others():
    sample = Sample.of([0] * 30 + [1], np.eye(2)[[0] * 30 + [1]])
    intervals = bootstrap_vectors(sample, {"recall": Metric("Recall", recall)}, QUICK)["recall"]
    assert intervals == [exact(1.0, 30), exact(1.0, 1)]


def test_what_is_undefined_has_no_interval():
    alone = Sample.of([0, 0, 0], [[0.9, 0.1]] * 3)
    assert bootstrap(alone, METRICS, QUICK)["auroc"] == Interval(None, None, None)
    nothing = alone[np.array([], int)]
    assert bootstrap(nothing, METRICS, QUICK)["accuracy"] == Interval(None, None, None)
    assert paired_bootstrap(
        "accuracy", [], np.zeros((0, 2)), np.zeros((0, 2)), resampling=QUICK
    ) == Interval(None, None, None)


def test_a_model_differs_from_itself_by_nothing():
    sample = make_sample(80, 3)
    p = sample.probabilities
    same = paired_bootstrap("log_loss", sample.targets, p, p, resampling=QUICK)
    assert same == Interval(0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", ["accuracy", "weighted_accuracy"])
@pytest.mark.parametrize("images", [24, 200])
def test_images_without_a_difference_do_not_rule_one_out(name, images):
    sample = make_sample(images, 3)
    p = sample.probabilities
    same = paired_bootstrap(name, sample.targets, p, p, resampling=QUICK)
    unseen = 1 - 0.025 ** (1 / images)
    assert (same.value, same.low, same.high) == pytest.approx((0, -unseen, unseen), abs=1e-6)


@pytest.mark.parametrize("gained", [1, 2, 3])
def test_a_few_gains_without_a_loss_do_not_rule_a_loss_out(gained):
    targets = np.arange(40) % 2
    worse = np.eye(2)[targets]
    better = worse.copy()
    worse[:10] = worse[:10, ::-1]
    better[gained:10] = better[gained:10, ::-1]
    forth = paired_bootstrap("accuracy", targets, better, worse, resampling=QUICK)
    back = paired_bootstrap("accuracy", targets, worse, better, resampling=QUICK)
    assert forth.low == -back.high == pytest.approx(-(1 - 0.025 ** (1 / 40)), abs=1e-6)
    assert forth.high == -back.low > gained / 40


def exact(share: float, images: int) -> Interval:
    """The two-sided interval of Clopper and Pearson, of 0 or 1."""
    interval = stats.binomtest(round(share * images), images).proportion_ci(method="exact")
    return Interval(share, round(interval.low, 6), round(interval.high, 6))


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_no_number_of_images_makes_a_share_certain(right, weighted):
    targets = np.repeat([0, 1], [24, 8])
    answers = np.eye(2)[targets if right else 1 - targets]
    sample = Sample.of(targets, answers, np.linspace(0.1, 1, 32))
    shares = METRICS | {"odd": share_of(sample.correct, targets), "all": share_of(sample.correct)}
    found = bootstrap(sample, shares, QUICK, weighted=weighted)
    share = float(right)
    for name in ("accuracy", "weighted_accuracy", "all"):
        assert found[name] == exact(share, 32)
    assert found["odd"] == exact(share, 8)
    parts = {"recall": Metric("", recall), "precision": Metric("", precision)}
    by_class = bootstrap_vectors(sample, parts, QUICK, weighted=weighted)
    assert by_class["recall"] == [exact(share, 24), exact(share, 8)]
    assert by_class["precision"] == by_class["recall"][:: 1 if right else -1]
    for name in ("balanced_accuracy", "macro_f1", "auroc"):
        assert found[name].high - found[name].low > 0.1


@pytest.mark.parametrize("sizes", [(20, 20), (30, 10), (200, 9, 40), (500, 3)])
def test_the_balanced_accuracy_without_mistakes_reaches_as_low_as_its_classes_allow(sizes):
    targets = np.repeat(np.arange(len(sizes)), sizes)
    sample = Sample.of(targets, np.eye(len(sizes))[targets])
    name = "balanced_accuracy"
    found = bootstrap(sample, {name: METRICS[name]}, QUICK)[name]
    # Chances of no mistake at all that multiply to 2.5 %, shared among the classes in every way.
    shares = np.random.default_rng(0).dirichlet(np.full(len(sizes), 0.5), 100_000)
    lowest = (0.025 ** (shares / np.array(sizes))).mean(axis=1).min()
    assert found.low == pytest.approx(lowest, abs=1e-4)


def test_the_interval_of_few_images_covers_a_share_near_one():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        right = rng.random(24) < 0.97
        sample = Sample.of(np.zeros(24, int), np.where(right[:, None], [0.9, 0.1], [0.1, 0.9]))
        metric = {"accuracy": METRICS["accuracy"]}
        interval = bootstrap(sample, metric, Resampling(100, 0.95, seed))["accuracy"]
        covered += interval.low <= 0.97 <= interval.high
    assert covered / 200 >= 0.95


def test_a_difference_on_the_same_images_is_surer_than_the_models_own_values():
    sample = make_sample(400, 2)
    worse = sample.probabilities.copy()
    flipped = np.flatnonzero(sample.correct)[:20]
    worse[flipped] = worse[flipped, ::-1]
    difference = paired_bootstrap(
        "accuracy", sample.targets, sample.probabilities, worse, resampling=QUICK
    )
    alone = bootstrap(sample, {"accuracy": METRICS["accuracy"]}, QUICK)["accuracy"]
    assert difference.value == pytest.approx(20 / 400)
    assert 0 < difference.low < difference.value < difference.high
    assert difference.high - difference.low < 0.7 * (alone.high - alone.low)


def test_weights_count_in_every_metric():
    sample = make_sample(200, 3)
    whole = Sample(sample.targets, sample.probabilities, (sample.weights * 3).round())
    counted = whole[np.repeat(np.arange(200), whole.weights.astype(int))]
    once = Sample.of(counted.targets, counted.probabilities)
    weighted = bootstrap(whole, METRICS, QUICK, weighted=True)
    for name in METRICS:
        assert weighted[name].value == pytest.approx(METRICS[name].of(once), abs=1e-5), name
        assert weighted[name].low <= weighted[name].value <= weighted[name].high


def related(sample: Sample, groups: np.ndarray) -> Sample:
    return replace(sample, groups=groups)


def test_groups_are_drawn_whole_in_bounded_chunks():
    groups = np.random.default_rng(0).integers(0, 7, CHUNK // 10)
    chunks = list(draws(len(groups), Resampling(25, 0.95, 3), groups))
    assert [len(chunk) for chunk in chunks] == [10, 10, 5]
    counts = np.concatenate(chunks)
    _, first = np.unique(groups, return_index=True)
    np.testing.assert_array_equal(counts, counts[:, first][:, groups])
    assert (counts[:, first].sum(axis=1) == 7).all()


def test_groups_of_one_image_are_images():
    sample = make_sample(90, 3)
    alone = related(sample, np.arange(90))
    assert bootstrap(alone, METRICS, QUICK) == bootstrap(sample, METRICS, QUICK)


def test_related_images_say_less_than_as_many_others():
    rng = np.random.default_rng(0)
    truth, covered = 0.8, {True: 0, False: 0}
    groups = np.repeat(np.arange(40), 10)
    for seed in range(100):
        right = (rng.random(40) < truth)[groups]
        sample = Sample.of(np.zeros(400, int), np.where(right[:, None], [0.9, 0.1], [0.1, 0.9]))
        for together in covered:
            given = related(sample, groups) if together else sample
            metric = {"accuracy": METRICS["accuracy"]}
            interval = bootstrap(given, metric, Resampling(200, 0.9, seed))["accuracy"]
            covered[together] += interval.low <= truth <= interval.high
    assert covered[True] >= 83
    assert covered[False] < 60


def test_a_difference_on_related_images_is_less_sure():
    targets, groups = np.arange(400) % 2, np.repeat(np.arange(40), 10)
    better, worse = (
        np.eye(2)[np.where(right[groups], targets, 1 - targets)]
        for right in (np.arange(40) < 30, np.arange(40) % 4 < 2)
    )
    together, apart = (
        paired_bootstrap("accuracy", targets, better, worse, groups=each, resampling=QUICK)
        for each in (groups, None)
    )
    assert together.value == apart.value
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_of_related_images_the_groups_make_a_share_certain():
    targets = np.repeat([0, 1], 30)
    sample = related(Sample.of(targets, np.eye(2)[targets]), np.arange(60) // 5)
    found = bootstrap(sample, METRICS | {"odd": share_of(targets, targets)}, QUICK)
    assert found["accuracy"] == exact(1.0, 12)
    assert found["odd"] == exact(1.0, 6)


@pytest.mark.slow
@pytest.mark.parametrize("ties", [False, True])
def test_ten_thousand_resamples_of_ten_thousand_images_take_seconds(ties):
    """Under 2 s of one core for all metrics, AUROC with them; twice that is allowed here."""
    sample = make_sample(10_000, 2)
    if ties:
        rounded = sample.probabilities.round(2)
        sample = Sample.of(sample.targets, rounded, sample.weights)
    start = time.process_time()
    bootstrap(sample, METRICS, Resampling(10_000, 0.95, 0))
    assert time.process_time() - start < 4
