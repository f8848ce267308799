"""The table of checks: each catches what it is there for, and lets sound data pass."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.manifest import GIVEN, MEASURED
from pipeline.data.validation.check import in_words
from pipeline.data.validation.checks import CHECKS, asked, default_suites, suite, with_derived
from pipeline.data.validation.checks.families import distinct_in, size_of
from pipeline.data.validation.checks.pixels import MODES
from pipeline.data.validation.judge import Judge
from pipeline.data.validation.verdict import Finding
from pipeline.errors import ConfigurationError
from pipeline.params import load
from tests.manifests import manifest_frame
from tests.validation import PARAMS

CLASSES = ["cat", "owl"]
LABELS = ["cat", "owl", "cat", "owl"]
NAMED = asked(PARAMS, "group")
COPIES = ("conflicting_labels", "near_conflicting_labels", "duplicates", "near_duplicates")


@pytest.fixture(scope="module")
def judge():
    """A function: the findings of the checks of ``level`` on a manifest with ``columns`` changed.

    ``only`` names the checks that are asked; all of them take a third of a second.
    """

    def findings(level, only=None, params=PARAMS, **columns):
        checks = [check for check in asked(params, "group") if not only or check.name in only]
        table = with_derived(a_table(level, columns), level, checks, "group")
        outcomes = Judge().judge(suite(level, checks, params), table, {"classes": CLASSES})
        by_name = {check.name: check for check in checks}
        return {found.check: Finding(by_name[found.check], found, table) for found in outcomes}

    return findings


def a_table(level, columns):
    if level == "reference":
        sound = {
            "column": ["label", "weight", "brightness", "contrast"],
            "presence": ["same"] * 4,
            "type_change": [None] * 4,
            "drift": [float("nan"), 0.0, 0.01, 0.05],
            "label_drift": [0.0, *[float("nan")] * 3],
        }
        laid = {name: [*columns.get(name, []), *values] for name, values in sound.items()}
        return pd.DataFrame({name: values[:4] for name, values in laid.items()})
    columns = {"group": ["a", "b", "c", "d"]} | columns
    manifest = manifest_frame(columns.pop("label", LABELS), **columns)
    if len(manifest) < len(LABELS):
        raise AssertionError("a counterexample needs its labels for all four rows, or for none")
    return manifest


def counterexample(check):
    columns = dict(check.counterexample)
    if "label" in columns:
        columns["label"] = [*columns["label"], *LABELS[len(columns["label"]) :]]
    return columns


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_check_catches_its_counterexample(judge, check):
    (finding,) = judge(check.level, [check.name], **counterexample(check)).values()
    assert finding.failed
    assert 3 not in finding.outcome.failing  # nothing is wrong with the last row


@pytest.mark.parametrize("level", ["row", "dataset", "reference"])
def test_sound_data_passes_every_check(judge, level):
    given = {} if level == "reference" else {"split": ["train", "val", "Testing", None]}
    findings = judge(level, **given)
    assert [name for name, finding in findings.items() if finding.failed] == []
    assert set(findings) == {check.name for check in CHECKS if check.level == level}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_an_entry_is_complete(check):
    own = {"column", "presence", "type_change", "drift", "label_drift"}
    manifest = {name for name, _ in (*GIVEN, *MEASURED)}
    known = own if check.level == "reference" else manifest
    assert (check.column in known) == (check.derive is None)
    assert check.cluster is None or check.cluster in known
    assert not check.reason.endswith(".")
    assert check.remedy.endswith(".")
    assert check.counterexample


def test_names_are_used_once():
    names = [check.name for check in CHECKS]
    derived = [check.column for check in CHECKS if check.derive is not None]
    assert len(set(names)) == len(names)
    assert len(set(derived)) == len(derived)


def test_the_committed_suite_is_that_of_the_committed_parameters(project):
    path = project / "src/pipeline/data/validation/expectations.json"
    expected = default_suites(load(project / "params.yaml").validation)
    assert path.read_text(encoding="utf-8") == expected, "run 'make expectations'"


def test_a_group_check_is_asked_only_where_groups_are_named():
    assert "group_across_splits" not in {check.name for check in asked(PARAMS, None)}
    assert "group_across_splits" in {check.name for check in NAMED}


def test_images_without_pixels_are_no_copies_of_each_other(judge):
    columns = {"duplicate_cluster": [-1, -1], "near_cluster": [-1, -1]}
    findings = judge("row", COPIES, **columns, status=["missing", "missing"])
    assert not any(finding.failed for finding in findings.values())


def test_exact_copies_are_not_told_a_second_time_as_near_ones(judge):
    columns = {"duplicate_cluster": [7, 7], "near_cluster": [7, 7]}
    findings = judge("row", COPIES, **columns)
    assert findings["conflicting_labels"].names() == ["images/00000.png", "images/00001.png"]
    assert findings["duplicates"].count == 2
    assert not findings["near_conflicting_labels"].failed
    assert not findings["near_duplicates"].failed
    across = ["duplicates_across_splits", "near_duplicates_across_splits"]
    findings = judge("dataset", across, **columns, split=["train", "test"])
    assert findings["duplicates_across_splits"].critical
    assert not findings["near_duplicates_across_splits"].failed


def test_a_near_copy_of_copies_is_told(judge):
    findings = judge("row", COPIES, duplicate_cluster=[7, 7, 9], near_cluster=[7, 7, 7])
    assert findings["near_conflicting_labels"].names() == ["images/00002.png"]
    assert findings["near_duplicates"].count == 3


def test_failing_rows_are_named(judge):
    findings = judge("row", ["mode", "min_side"], mode=["CMYK", "L", "P"], width=[5])
    assert findings["mode"].names() == ["images/00000.png", "images/00002.png"]
    assert findings["mode"].names(1) == ["images/00000.png"]
    assert findings["min_side"].reason(0) == "its shorter side has too few pixels (5)"


SAID = (
    ({"mode": "CMYK"}, {"mode": "CMYK: the inks of a printer"}),
    ({"mode": "LA", "alpha": 1}, {"mode": "LA: grey with transparency"}),
    ({"mode": "1", "bits": 1}, {"mode": "1: 1-bit black and white"}),
    ({"mode": "I;16", "bits": 16}, {"mode": "I;16: 16-bit grey"}),
    ({"mode": "F", "bits": 32}, {"mode": "F: floating point"}),
    (
        {"mode": "P", "alpha": 1},
        {"mode": "P: palette", "transparency": "P: palette with a transparent colour"},
    ),
    ({"mode": "RGB", "bits": 16}, {"bit_depth": "16-bit"}),
    ({"format": "GIF", "frames": 9}, {"format": "GIF", "several_frames": "9 frames"}),
    ({"format": "MPO", "frames": 2}, {"format": "MPO: several pictures in one JPEG"}),
    ({"width": 640, "height": 64}, {"aspect_ratio": "10.0 to 1"}),
    ({"magic": "GIF", "extension": ".jpg"}, {"misnamed": "GIF"}),
    ({"magic": "JPEG", "extension": ""}, {"misnamed": "JPEG"}),
    ({"magic": "JPEG", "extension": ".jpeg"}, {}),
    ({"magic": "PDF", "extension": ".png"}, {}),
)


def test_what_is_wrong_with_the_pixels_is_said_by_name(judge):
    changed = {name for columns, _ in SAID for name in columns}
    sound = manifest_frame(LABELS).iloc[0]
    laid = {name: [columns.get(name, sound[name]) for columns, _ in SAID] for name in changed}
    findings = judge("row", label=["cat"] * len(SAID), **laid)
    for place, (_, said) in enumerate(SAID):
        failing = [found for found in findings.values() if place in found.outcome.failing]
        assert {found.check.name: found.note(place) for found in failing} == said


def test_every_mode_that_pillow_decodes_to_has_words():
    plain = {"L", "RGB", "RGBX", "BGR;15", "BGR;16", "BGR;24"}
    assert {mode for mode in Image.MODES if mode not in plain} <= set(MODES)


@pytest.mark.parametrize("twins", [("cat", "Cat"), ("é", "e\u0301"), ("big cat", "big  cat")])
def test_twin_labels_are_found(judge, twins):
    (finding,) = judge("dataset", ["twin_labels"], label=[*twins, "owl", "owl"]).values()
    assert finding.outcome.failing.tolist() == [0, 1]


def test_a_severity_is_changed_or_switched_off(judge):
    params = PARAMS.model_copy(update={"severity": {"blurred": "off", "dark": "critical"}})
    findings = judge("row", ["dark", "blurred"], params, sharpness=[0.0], brightness=[0.0])
    assert "blurred" not in findings
    assert findings["dark"].critical


@pytest.mark.parametrize(
    ("severity", "message"),
    [
        ({"blured": "off"}, "'blured' is no check; did you mean 'blurred'?"),
        ({"zzz": "off"}, "'zzz' is no check; there are unlisted, misnamed, format"),
        ({"truncated": "off"}, "validation.severity.truncated: 'off' is not possible"),
        ({"unlabelled": "warning"}, "take 'unlabelled' out"),
    ],
)
def test_a_severity_of_no_check_or_a_fixed_one_is_refused(severity, message):
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        asked(PARAMS.model_copy(update={"severity": severity}), None)


def test_off_is_a_severity_though_yaml_reads_false(tmp_path, params_text):
    path = tmp_path / "params.yaml"
    path.write_text(params_text.replace("severity: {}", "severity: {blurred: off}"))
    assert load(path).validation.severity == {"blurred": "off"}
    path.write_text(params_text.replace("severity: {}", "severity: {blurred: on}"))
    with pytest.raises(ConfigurationError, match=r"severity\.blurred: True is not allowed"):
        load(path)


def test_an_expectation_that_cannot_be_evaluated_is_no_pass():
    broken = {
        "name": "row",
        "expectations": [
            {
                "type": "expect_column_values_to_match_regex",
                "kwargs": {"column": "label", "regex": "("},
                "severity": "warning",
                "meta": {"check": "broken"},
            }
        ],
        "meta": {},
    }
    with pytest.raises(RuntimeError, match="'broken' could not be evaluated"):
        Judge().judge(broken, manifest_frame(LABELS), {})


keys = st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([1, 2, None])))


@given(keys)
def test_families_are_counted_as_a_loop_would(pairs):
    frame = pd.DataFrame(pairs, columns=["key", "value"], dtype=object)
    distinct = distinct_in(frame["key"], frame["value"]).tolist()
    sizes = size_of(frame["key"]).tolist()
    for i, (key, _) in enumerate(pairs):
        family = [] if key is None else [value for other, value in pairs if other == key]
        assert sizes[i] == len(family)
        assert distinct[i] == len({value for value in family if value is not None})


@pytest.mark.parametrize(
    ("value", "words"), [(12345.6, "12,346"), (0.123456, "0.1235"), (["a", "b"], "a, b"), (3, "3")]
)
def test_values_are_put_in_words(value, words):
    assert in_words(value) == words
