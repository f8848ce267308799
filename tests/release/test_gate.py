"""The gate, on numbers alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.bootstrap import Resampling
from pipeline.release.gate import Candidate, Images, Rules, decide
from pipeline.release.gate_page import Side, render_gate
from tests.evaluation.pages import assert_needs_nothing_else

RULES = Rules("accuracy", min_gain=0.0, max_loss=0.02)
RESAMPLING = Resampling(resamples=200, confidence=0.95, seed=0)
IMAGES = 200
TARGETS = np.arange(IMAGES) % 2


def ids(split):
    return np.array([f"{split} {i}" for i in range(IMAGES)], dtype=object)


def images():
    return {
        split: Images(ids(split), ids(split), TARGETS, np.ones(IMAGES, np.float32))
        for split in ("val", "test")
    }


def model(name, *, val, test, classes=("a", "b"), trained_on=()):
    """A model that is right on the first ``val`` and ``test`` percent of the images."""

    def probabilities(split):
        right = np.arange(IMAGES) < IMAGES * {"val": val, "test": test}[split] / 100
        predicted = np.where(right, TARGETS, 1 - TARGETS)
        return np.where(np.arange(2) == predicted[:, None], 0.9, 0.1)

    return Candidate(name * 64, classes, frozenset(trained_on), probabilities)


def unasked(_split):
    raise AssertionError("its predictions do not matter here")


def verdict(challenger, champion, rules=RULES):
    return decide(challenger, champion, images(), rules, RESAMPLING)


def test_a_first_model_passes_without_being_compared():
    assert verdict(Candidate("a", ("a",), frozenset(), unasked), None).passed


def test_equal_weights_are_nothing_to_do():
    same = Candidate("a", ("a", "b"), frozenset(), unasked)
    decided = verdict(same, same)
    assert decided.passed
    assert decided.reasons == ("it is the champion already",)


def test_other_classes_are_another_model():
    challenger = model("a", val=90, test=90, classes=("a", "b"))
    champion = model("b", val=80, test=80, classes=("b", "a"))
    with pytest.raises(PipelineError, match=r"register\.model"):
        verdict(challenger, champion)


def test_better_on_validation_and_no_worse_on_test_passes():
    decided = verdict(model("a", val=90, test=85), model("b", val=80, test=85))
    assert decided.passed
    assert decided.numbers["val_gain"] == pytest.approx(0.1)
    assert -0.02 < decided.numbers["test_difference_low"] < 0


def test_a_few_images_without_a_difference_do_not_rule_a_loss_out():
    challenger = model("a", val=90, test=85)
    champion = model("b", val=80, test=85, trained_on=ids("test")[40:])
    decided = verdict(challenger, champion)
    assert not decided.passed
    assert decided.numbers["test_difference"] == 0
    assert "cannot be ruled out" in decided.as_text()
    assert verdict(challenger, champion, Rules("accuracy", min_gain=0.0, max_loss=0.1)).passed


@pytest.mark.parametrize("val", [79.5, 80])
def test_no_better_on_validation_does_not_pass_however_good_on_test(val):
    decided = verdict(model("a", val=val, test=99), model("b", val=80, test=50))
    assert not decided.passed
    assert "has to be above the champion's" in decided.as_text()


def test_the_gain_has_to_exceed_the_smallest_one():
    rules = Rules("accuracy", min_gain=0.1, max_loss=0.02)
    champion = model("b", val=80, test=80)
    assert not verdict(model("a", val=89, test=80), champion, rules).passed
    assert verdict(model("a", val=91, test=80), champion, rules).passed


def test_a_loss_on_test_that_cannot_be_ruled_out_does_not_pass():
    decided = verdict(model("a", val=90, test=79), model("b", val=80, test=80))
    assert not decided.passed
    assert decided.numbers["test_difference"] == pytest.approx(-0.01)  # less than max_loss
    assert "cannot be ruled out" in decided.as_text()


def test_related_images_rule_out_less():
    groups = np.arange(IMAGES) // 5
    related = {split: replace(each, groups=groups) for split, each in images().items()}
    challenger, champion = model("a", val=90, test=85), model("b", val=80, test=85)
    decided = decide(challenger, champion, related, RULES, RESAMPLING)
    assert not decided.passed
    assert decided.numbers["test_difference_low"] == pytest.approx(0.025 ** (1 / 40) - 1, abs=1e-6)


def test_images_the_champion_learned_from_do_not_count():
    # The champion is right on the first 90 % of the test images because it learned them, the
    # challenger on the last 85 %.
    first = model("a", val=90, test=85)
    challenger = replace(first, probabilities=lambda split: first.probabilities(split)[::-1, ::-1])
    knew = model("b", val=80, test=90, trained_on=ids("test")[:180])
    assert not verdict(challenger, model("b", val=80, test=90)).passed
    decided = verdict(challenger, knew)
    assert decided.passed
    assert decided.numbers["test_images"] == 20
    assert decided.numbers["test_images_left_out"] == 180
    assert "180 images" in decided.as_text()


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_champion_that_learned_from_every_image_cannot_be_judged(split):
    champion = model("b", val=10, test=10, trained_on=ids(split))
    decided = verdict(model("a", val=90, test=90), champion)
    assert not decided.passed
    assert "learned from all of these images" in decided.as_text()


def test_a_metric_that_the_images_leave_undefined_does_not_pass():
    rules = Rules("auroc", min_gain=0.0, max_loss=0.02)
    champion = model("b", val=80, test=80, trained_on=ids("test")[1::2])  # one class is left
    decided = verdict(model("a", val=90, test=90), champion, rules)
    assert not decided.passed
    assert "undefined" in decided.as_text()


def side(name, candidate):
    return Side(name, candidate, 1000, None)


def page(challenger, champion):
    return render_gate(
        verdict(challenger, champion),
        side("net", challenger),
        side("champion, version 3", champion),
        images(),
        "accuracy",
        RESAMPLING,
    )


def test_the_gate_counts_the_images_that_only_one_has_right():
    numbers = verdict(model("a", val=90, test=90), model("b", val=80, test=80)).numbers
    assert (numbers["test_only_challenger"], numbers["test_only_champion"]) == (20, 0)
    assert numbers["test_mcnemar_p"] == pytest.approx(2 / 2**20, abs=1e-6)


def test_the_gates_page_shows_both_on_the_images_that_count():
    challenger, champion = model("a", val=90, test=90), model("b", val=80, test=80)
    text = page(challenger, champion)
    assert_needs_nothing_else(text)
    assert "net takes the place of the champion, version 3" in text
    assert "20 images that net has right and champion, version 3 wrong" in text
    assert "test 160" in text
    champion = model("b", val=95, test=80, trained_on=ids("test")[100:])
    text = page(challenger, champion)
    assert "net does not pass" in text
    assert "On the 100 test images" in text


def test_without_images_that_count_there_is_no_page():
    champion = model("b", val=80, test=80, trained_on=ids("test"))
    assert page(model("a", val=90, test=90), champion) is None
