"""The table of checks: each catches what it is there for, and lets sound data pass."""

from __future__ import annotations

import pytest

from pipeline.data.checks import CHECKS, default_suites, suite, with_derived
from pipeline.data.judge import Judge
from pipeline.data.manifest import GIVEN, MEASURED
from pipeline.params import ValidationParams, load
from tests.manifests import manifest_frame

CLASSES = ["cat", "owl"]
LABELS = ["cat", "owl", "cat", "owl"]
PARAMS = ValidationParams(
    formats=("PNG", "JPEG"),
    modes=("L", "RGB"),
    min_side=32,
    max_side=1000,
    min_images_per_class=2,
    max_imbalance=2.0,
    quarantine_budget=0.5,
)


def judge(level, **columns):
    """The outcome of each check of ``level`` on a manifest with ``columns`` changed."""
    columns = {"group": ["a", "b", "c", "d"]} | columns
    manifest = manifest_frame(columns.pop("label", LABELS), **columns)
    if len(manifest) < len(LABELS):
        raise AssertionError("a counterexample needs its labels for all four rows, or for none")
    table = with_derived(manifest, level, "group")
    outcomes = Judge().judge(suite(level, PARAMS, "group"), table, {"classes": CLASSES})
    return {outcome.check: outcome for outcome in outcomes}


def counterexample(check):
    columns = dict(check.counterexample)
    if "label" in columns:
        columns["label"] = [*columns["label"], *LABELS[len(columns["label"]) :]]
    return columns


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_check_catches_its_counterexample(check):
    outcome = judge(check.level, **counterexample(check))[check.name]
    assert not outcome.success
    assert "images/00003.png" not in outcome.failing  # nothing is wrong with the last row


@pytest.mark.parametrize("level", ["row", "dataset"])
def test_sound_data_passes_every_check(level):
    outcomes = judge(level, split=["train", "val", "Testing", None])
    assert {name for name, outcome in outcomes.items() if not outcome.success} == set()
    assert set(outcomes) == {check.name for check in CHECKS if check.level == level}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_an_entry_is_complete(check):
    manifest_columns = {name for name, _ in (*GIVEN, *MEASURED)}
    assert (check.column in manifest_columns) == (check.derive is None)
    assert not check.reason.endswith(".")
    assert check.remedy.endswith(".")
    assert check.counterexample


def test_names_are_used_once():
    names = [check.name for check in CHECKS]
    derived = [check.column for check in CHECKS if check.derive is not None]
    assert len(set(names)) == len(names)
    assert len(set(derived)) == len(derived)


def test_the_committed_suite_is_that_of_the_committed_parameters(project):
    path = project / "src/pipeline/data/expectations.json"
    expected = default_suites(load(project / "params.yaml").validation)
    assert path.read_text(encoding="utf-8") == expected, (
        "the checks or their parameters changed: write default_suites(...) to expectations.json"
    )


def test_a_group_check_is_asked_only_where_groups_are_named():
    names = [item["meta"]["check"] for item in suite("dataset", PARAMS, None)["expectations"]]
    assert "no_group_across_splits" not in names


def test_images_without_pixels_are_no_copies_of_each_other():
    outcomes = judge("row", duplicate_cluster=[-1, -1], status=["missing", "missing"])
    assert outcomes["one_label_per_picture"].success


def test_failing_rows_are_named():
    outcomes = judge("row", mode=["CMYK", "L", "P"], width=[5])
    assert outcomes["mode"].failing == ("images/00000.png", "images/00002.png")
    assert outcomes["min_side"].failing == ("images/00000.png",)


def test_an_expectation_that_cannot_be_evaluated_is_no_pass():
    broken = {
        "name": "row",
        "expectations": [
            {
                "type": "expect_column_values_to_not_be_null",
                "kwargs": {"column": "no such column"},
                "severity": "warning",
                "meta": {"check": "broken"},
            }
        ],
        "meta": {},
    }
    with pytest.raises(RuntimeError, match="'broken' could not be evaluated"):
        Judge().judge(broken, manifest_frame(LABELS), {})
