from __future__ import annotations

import io
import json
import logging
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.artifacts import write_json
from pipeline.errors import PipelineError
from pipeline.evaluation.bootstrap import Resampling
from pipeline.evaluation.compare import compare
from pipeline.evaluation.curves import training
from pipeline.evaluation.measure import measure
from pipeline.evaluation.predictions import Predictions
from pipeline.params import Params, load
from pipeline.workspace import Workspace
from tests.evaluation.pages import assert_needs_nothing_else, seen_by_a_browser
from tests.evaluation.synthetic import make_history, make_packed, make_probabilities

PACKED = make_packed(900, 2)


@pytest.fixture
def workspace(tmp_path, params_text) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.params.write_text(params_text, encoding="utf-8")
    return workspace


def write_evaluation(
    workspace: Workspace,
    variant: str,
    *,
    val: float,
    test: float = 1.0,
    parameters: int = 1000,
    packed=PACKED,
    error: float | None = None,
) -> None:
    """An evaluation with the given skill on each split, without a network."""
    rows = np.concatenate([packed.rows("val"), packed.rows("test")])
    targets = packed.index["target"].to_numpy()[rows]
    k = len(packed.classes)
    splits = packed.index["split"].to_numpy()[rows]
    skilled = [make_probabilities(targets, k, skill=skill) for skill in (val, test)]
    probabilities = np.where((splits == "val")[:, None], *skilled)
    predictions = Predictions.of(
        packed, rows, probabilities, weights_sha256=variant * 8, parameters=parameters
    )
    folder = workspace.evaluation(variant)
    predictions.write(folder / "predictions.parquet")
    write_json(folder / "metrics.json", measure(predictions, Resampling(100, 0.95, 0)).as_json())
    sections = {} if error is None else sections_of(error, parameters)
    write_json(folder / "sections.json", sections)
    (folder / "curves").mkdir()
    for name in ("roc", "pr", "calibration", "confusion"):
        pd.DataFrame({"x": [0.0, 1.0]}).to_csv(folder / "curves" / f"{name}.csv", index=False)
    training(make_history()).to_csv(folder / "curves" / "training.csv", index=False)


def sections_of(error: float, parameters: int) -> dict[str, Any]:
    """What the sections ``cost`` and ``corruptions`` would have found."""
    cost = {"multiply_adds": 1000 * parameters, "parameters": parameters}
    cost |= {"weights_bytes": 4 * parameters, "activations_bytes": 4096}
    corruptions = {
        "images": 50,
        "clean_error": error / 2,
        "errors": {"fog": [error] * 5, "snow": [error] * 5},
        "mean_error": {"value": error, "low": error, "high": error},
        "titles": {"fog": "Fog", "snow": "Snow"},
    }
    return {"cost": cost, "corruptions": corruptions}


def params_of(workspace: Workspace, *variants: str, metric: str = "balanced_accuracy") -> Params:
    settings = yaml.safe_load(workspace.params.read_text())
    settings["variants"] = {name: {"model": "small_cnn"} for name in variants}
    settings["compare"]["metric"] = metric
    settings["evaluate"]["resamples"] = 200
    workspace.params.write_text(yaml.safe_dump(settings, sort_keys=False))
    return load(workspace.params)


def leaderboard(workspace: Workspace) -> pd.DataFrame:
    return pd.read_csv(workspace.leaderboard).set_index("variant")


def test_validation_chooses_even_where_the_test_images_say_otherwise(workspace):
    write_evaluation(workspace, "a", val=1.0, test=6.0)
    write_evaluation(workspace, "b", val=3.0, test=0.2)
    compare(workspace, params_of(workspace, "a", "b"))
    board = leaderboard(workspace)
    assert list(board.index) == ["b", "a"]
    assert board.loc["a", "test_balanced_accuracy"] > board.loc["b", "test_balanced_accuracy"]
    selection = json.loads(workspace.selection.read_text())
    assert selection == {
        "challenger": "b",
        "metric": "balanced_accuracy",
        "value": board.loc["b", "val_balanced_accuracy"],
        "weights_sha256": "b" * 8,
    }


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "auroc"])
def test_every_metric_of_the_settings_can_choose(workspace, metric):
    write_evaluation(workspace, "weak", val=0.3)
    write_evaluation(workspace, "strong", val=3.0)
    compare(workspace, params_of(workspace, "weak", "strong", metric=metric))
    assert json.loads(workspace.selection.read_text())["challenger"] == "strong"
    assert leaderboard(workspace)[f"val_{metric}"].is_monotonic_decreasing


def test_the_leaderboard_says_how_far_behind_the_first_each_variant_is(workspace):
    write_evaluation(workspace, "weak", val=0.3)
    write_evaluation(workspace, "strong", val=3.0)
    compare(workspace, params_of(workspace, "weak", "strong"))
    board = leaderboard(workspace)
    assert list(board["rank"]) == [1, 2]
    assert list(board.loc["strong", ["difference", "difference_low", "difference_high"]]) == [0] * 3
    behind = board.loc["weak"]
    assert behind["difference"] == pytest.approx(
        behind["val_balanced_accuracy"] - board.loc["strong", "val_balanced_accuracy"], abs=2e-6
    )
    assert behind["difference_low"] < behind["difference"] < behind["difference_high"] < 0
    for split in ("val", "test"):
        low, value, high = (board[f"{split}_auroc{end}"] for end in ("_low", "", "_high"))
        assert ((low <= value) & (value <= high)).all()


def test_of_equals_the_smaller_model_comes_first(workspace):
    write_evaluation(workspace, "large", val=1.0, parameters=10**6)
    write_evaluation(workspace, "small", val=1.0, parameters=10**3)
    compare(workspace, params_of(workspace, "large", "small"))
    assert list(leaderboard(workspace)["parameters"]) == [10**3, 10**6]


def test_variants_that_params_do_not_name_are_not_looked_at(workspace):
    write_evaluation(workspace, "kept", val=1.0)
    write_evaluation(workspace, "gone", val=6.0)
    (workspace.evaluation("gone") / "metrics.json").write_text("broken")
    compare(workspace, params_of(workspace, "kept"))
    assert list(leaderboard(workspace).index) == ["kept"]


@pytest.mark.parametrize("name", ["metrics.json", "predictions.parquet", "sections.json"])
def test_a_variant_without_an_evaluation_is_named(workspace, name):
    write_evaluation(workspace, "a", val=1.0)
    write_evaluation(workspace, "b", val=1.0)
    (workspace.evaluation("b") / name).unlink()
    with pytest.raises(PipelineError, match=r"variant 'b' has no evaluation.*evaluate@b"):
        compare(workspace, params_of(workspace, "a", "b"))
    assert not workspace.leaderboard.exists()


def test_evaluations_of_different_data_are_not_compared(workspace):
    write_evaluation(workspace, "a", val=1.0)
    other = make_packed(600, 2)
    object.__setattr__(other, "digest", "e" * 64)
    write_evaluation(workspace, "b", val=1.0, packed=other)
    with pytest.raises(PipelineError, match="different data"):
        compare(workspace, params_of(workspace, "a", "b"))


def test_a_metric_that_the_validation_images_leave_undefined_cannot_choose(workspace):
    write_evaluation(workspace, "a", val=1.0)
    path = workspace.evaluation("a") / "metrics.json"
    measured = json.loads(path.read_text())
    measured["val"]["auroc"] = {"value": None, "low": None, "high": None}
    write_json(path, measured)
    with pytest.raises(PipelineError, match="auroc is not defined"):
        compare(workspace, params_of(workspace, "a", metric="auroc"))


def test_the_curves_of_all_variants_stand_in_one_table(workspace):
    write_evaluation(workspace, "a", val=1.0)
    write_evaluation(workspace, "b", val=2.0)
    compare(workspace, params_of(workspace, "b", "a"))
    for name in ("roc", "pr", "calibration", "confusion", "training"):
        table = pd.read_csv(workspace.curves / f"{name}.csv")
        assert list(table["variant"].unique()) == ["b", "a"]


def test_names_of_classes_that_look_like_numbers_or_nothing_stay_in_the_joint_curves(workspace):
    names = ("None", "001", "NA")
    rows = "".join(f"{actual},{predicted}\n" for actual in names for predicted in names)
    for variant in ("a", "b"):
        write_evaluation(workspace, variant, val=1.0)
        path = workspace.evaluation(variant) / "curves" / "confusion.csv"
        path.write_text(f"actual,predicted\n{rows}", encoding="utf-8")
    compare(workspace, params_of(workspace, "a", "b"))
    joint = (workspace.curves / "confusion.csv").read_text(encoding="utf-8").splitlines()
    expected = [f"{row},{variant}" for variant in "ab" for row in rows.splitlines()]
    assert joint == ["actual,predicted,variant", *expected]


def test_equal_evaluations_give_equal_bytes(workspace):
    write_evaluation(workspace, "a", val=1.0)
    write_evaluation(workspace, "b", val=2.0)
    params = params_of(workspace, "a", "b")
    outputs = []
    for _ in range(2):
        compare(workspace, params)
        outputs.append((workspace.leaderboard.read_bytes(), workspace.selection.read_bytes()))
    assert outputs[0] == outputs[1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_the_leaderboard_is_shown(workspace, terminal, monkeypatch, caplog):
    write_evaluation(workspace, "weak", val=0.3)
    write_evaluation(workspace, "strong", val=3.0)
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(logging.getLogger("pipeline"), "propagate", True)
    with caplog.at_level(logging.INFO, "pipeline"):
        compare(workspace, params_of(workspace, "weak", "strong"))
    shown = stream.getvalue() if terminal else caplog.text
    assert shown.index("strong") < shown.index("weak")
    assert "strong is the challenger" in caplog.text


def comparison(workspace: Workspace) -> str:
    return (workspace.comparison / "comparison.html").read_text(encoding="utf-8")


def compare_three(workspace: Workspace) -> None:
    write_evaluation(workspace, "weak", val=0.3, test=0.3, parameters=10**4, error=0.6)
    write_evaluation(workspace, "strong", val=3.0, test=3.0, parameters=10**6, error=0.3)
    write_evaluation(workspace, "middling", val=1.5, test=1.5, parameters=10**7, error=0.45)
    write_json(
        workspace.report("strong") / "timings.json",
        {"cost": {"batch_1_ms": 1.5, "batch_64_ms": 40.25, "device": "<b>cpu</b>"}},
    )
    compare(workspace, params_of(workspace, "weak", "strong", "middling"))


def test_the_page_of_the_comparison_tells_quality_cost_and_differences(workspace):
    compare_three(workspace)
    text = comparison(workspace)
    assert_needs_nothing_else(text)
    assert "strong is the challenger" in text
    assert "40.2 ms" in text
    assert "&lt;b&gt;cpu" in text
    assert text.count("<svg") == 1  # one latency makes no front
    assert "images that strong has right and weak wrong" in text
    assert "mCE against weak" in text
    for value in ("50.0", "75.0", "100.0"):
        assert f"<b>{value}" in text


def test_the_leaderboard_has_cost_significance_and_mean_corruption_error(workspace):
    compare_three(workspace)
    board = leaderboard(workspace)
    assert dict(board["mean_corruption_error"]) == {"strong": 0.5, "middling": 0.75, "weak": 1.0}
    assert board.loc["strong", "test_mcnemar_p"] == 1.0
    assert board.loc["weak", "test_mcnemar_p"] < 0.05
    assert list(board["multiply_adds"]) == [10**9, 10**10, 10**7]


def test_another_variant_can_be_the_reference(workspace):
    write_evaluation(workspace, "a", val=1.0, error=0.2)
    write_evaluation(workspace, "b", val=2.0, error=0.4)
    params = params_of(workspace, "a", "b")
    changed = params.compare.model_copy(update={"reference": "b"})
    compare(workspace, params.model_copy(update={"compare": changed}))
    assert dict(leaderboard(workspace)["mean_corruption_error"]) == {"b": 1.0, "a": 0.5}


def test_without_those_sections_the_comparison_goes_without_them(workspace):
    write_evaluation(workspace, "a", val=1.0)
    compare(workspace, params_of(workspace, "a"))
    assert_needs_nothing_else(comparison(workspace))
    assert np.isnan(leaderboard(workspace).loc["a", "mean_corruption_error"])


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_comparison_without_a_complaint(workspace, tmp_path, chromium, width):
    compare_three(workspace)
    seen = seen_by_a_browser(comparison(workspace), tmp_path, chromium, width=width)
    assert seen["sections"] == ["verdict", "quality", "cost", "corruptions", "flips"]
    assert (seen["wide"], seen["broken"], seen["unreachable"]) == (0, 0, 0)
