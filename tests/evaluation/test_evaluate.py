from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from pipeline.artifacts import sha256_file, write_json
from pipeline.data.pack import Packed
from pipeline.errors import ConfigurationError, DataRefused, PipelineError
from pipeline.evaluation.calibration import CALIBRATION, calibrated, fit
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.predictions import Predictions
from pipeline.vision.metrics import METRICS
from pipeline.vision.temperature import Calibration
from tests.project import PROJECT


def files_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_an_evaluation_leaves_every_file_the_next_stages_read(evaluated):
    workspace = evaluated.workspace
    assert set(files_of(workspace.evaluation("first"))) == {
        "predictions.parquet",
        "metrics.json",
        "sections.json",
        "calibration.json",
        *(f"curves/{name}.csv" for name in ("roc", "pr", "calibration", "confusion", "training")),
    }
    report = set(files_of(workspace.report("first")))
    assert {"report.html", "roc.png", "confusion.png", "calibration.png", "loss.png"} <= report


def test_metrics_are_those_of_the_predictions_on_disk(evaluated):
    folder = evaluated.workspace.evaluation("first")
    measured = json.loads((folder / "metrics.json").read_text())
    predictions = Predictions.read(folder / "predictions.parquet")
    for split, sample in predictions.samples.items():
        assert measured["images"][split] == len(sample) == len(evaluated.packed.rows(split))
        for name, metric in METRICS.items():
            found = measured[split][name]
            assert found["value"] == pytest.approx(metric.of(sample), abs=1e-6)
            assert found["low"] <= found["value"] <= found["high"]
    by_class = measured["per_class"]["test"]
    assert list(by_class) == sorted(evaluated.packed.classes)
    assert sum(each["support"] for each in by_class.values()) == measured["images"]["test"]
    assert {each["column"] for each in measured["slices"]["test"]} == {"camera"}
    assert 0 <= measured["calibration"]["test"]["ece"]["value"] <= 1


def test_train_images_are_not_predicted(evaluated):
    folder = evaluated.workspace.evaluation("first")
    table = Predictions.read(folder / "predictions.parquet").table
    index = evaluated.packed.index
    assert set(table["split"]) == {"val", "test"}
    expected = index.loc[index["split"] != "train", "image_id"]
    assert sorted(table["image_id"]) == sorted(expected)


def test_predictions_name_the_weights_they_are_of(evaluated):
    workspace = evaluated.workspace
    predictions = Predictions.read(workspace.evaluation("first") / "predictions.parquet")
    weights = workspace.model("first") / "weights.safetensors"
    assert predictions.weights_sha256 == sha256_file(weights)
    assert predictions.data_digest == evaluated.packed.digest


def test_the_same_model_and_data_give_the_same_bytes(evaluated, tmp_path):
    workspace = evaluated.workspace
    folder, report = workspace.evaluation("first"), workspace.report("first")
    before, pictures = files_of(folder), files_of(report)
    evaluate(workspace, evaluated.params, "first")
    assert files_of(folder) == before
    # The page tells what the sections took: no stage depends on it.
    assert {n: d for n, d in files_of(report).items() if n.endswith(".png")} == {
        n: d for n, d in pictures.items() if n.endswith(".png")
    }
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    needed = [d for stage in stages.values() for d in stage.get("do", stage)["deps"]]
    assert not any(each.startswith("artifacts/reports") for each in needed)


def test_outputs_name_no_place_and_no_time(evaluated):
    workspace = evaluated.workspace
    for folder in (workspace.evaluation("first"), workspace.report("first")):
        for path in folder.rglob("*.*"):
            assert str(workspace.root).encode() not in path.read_bytes(), path


def test_the_log_ends_with_the_numbers_and_the_files(project, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("pipeline"), "propagate", True)
    with caplog.at_level(logging.INFO, "pipeline"):
        evaluate(project.workspace, project.params, "second")
    assert "evaluated second on 16 test images: accuracy" in caplog.text
    assert "artifacts/reports/second/report.html" in caplog.text


def test_an_unknown_variant_is_a_wrong_setting(project):
    with pytest.raises(ConfigurationError, match="did you mean 'first'"):
        evaluate(project.workspace, project.params, "frist")


def test_a_model_of_other_data_is_refused(project):
    path = project.workspace.model("first") / "model.json"
    write_json(path, json.loads(path.read_text()) | {"data_digest": "0" * 64})
    with pytest.raises(PipelineError, match=r"other data .*dvc repro train@first"):
        evaluate(project.workspace, project.params, "first")
    assert not project.workspace.evaluation("first").exists()


def test_a_missing_model_is_named(project):
    shutil.rmtree(project.workspace.model("first"))
    with pytest.raises(PipelineError, match=r"models/first.*dvc repro"):
        evaluate(project.workspace, project.params, "first")


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_without_images_is_refused(project, split, monkeypatch):
    packed = project.packed
    index = packed.index.assign(split=packed.index["split"].replace(split, "train"))
    monkeypatch.setattr(Packed, "load", lambda _: replace(packed, index=index))
    with pytest.raises(DataRefused, match=f"no image is in the split '{split}'"):
        evaluate(project.workspace, project.params, "first")


def test_weights_that_are_not_finite_are_refused(project):
    from safetensors.torch import load_file, save_file

    path = project.workspace.model("first") / "weights.safetensors"
    weights = {
        name: torch.full_like(tensor, math.nan) if tensor.is_floating_point() else tensor
        for name, tensor in load_file(path).items()
    }
    save_file(weights, path)
    with pytest.raises(PipelineError, match="not finite"):
        evaluate(project.workspace, project.params, "first")


def test_sections_that_params_names_are_measured_and_no_others(evaluated):
    measured = json.loads(
        (evaluated.workspace.evaluation("first") / "sections.json").read_text("utf-8")
    )
    assert {"decision", "abstention", "corruptions", "attacks", "foreign"} < set(measured)
    assert set(measured) <= set(evaluated.params.evaluate.sections)
    timings = json.loads((evaluated.workspace.report("first") / "timings.json").read_text("utf-8"))
    assert list(timings["seconds"]) == sorted(evaluated.params.evaluate.sections)
    assert timings["cost"]["batch_64_ms"] > 0
    assert "batch_64_ms" not in measured["cost"]


def test_an_unknown_section_is_refused_before_anything_is_computed(project):
    settings = project.params.evaluate.model_copy(update={"sections": ("numbers", "curvs")})
    params = project.params.model_copy(update={"evaluate": settings})
    with pytest.raises(ConfigurationError, match=r"'curvs' is not a section.*mean 'curves'"):
        evaluate(project.workspace, params, "first")
    assert not project.workspace.evaluation("first").exists()


def test_the_temperature_is_that_of_the_validation_images(evaluated):
    folder = evaluated.workspace.evaluation("first")
    calibration = Calibration.read(folder / "calibration.json")
    measured = json.loads((folder / "metrics.json").read_text())
    predictions = Predictions.read(folder / "predictions.parquet")
    assert calibration.temperature == measured["temperature"] == fit(predictions.samples["val"])
    assert calibration.weights_sha256 == predictions.weights_sha256
    for split in ("val", "test"):
        after = calibrated(predictions.samples[split], calibration.temperature)
        for name, metric in CALIBRATION.items():
            found = measured["calibrated"][split][name]["value"]
            assert found == pytest.approx(metric.of(after), abs=1e-6)


def test_weighted_metrics_stand_beside_the_plain_ones(evaluated):
    folder = evaluated.workspace.evaluation("first")
    measured = json.loads((folder / "metrics.json").read_text())
    plain, weighted = measured["test"], measured["weighted"]["test"]
    assert weighted["accuracy"]["value"] == pytest.approx(plain["weighted_accuracy"]["value"])
    assert set(weighted) == set(METRICS)


def test_curves_are_tables_that_dvc_can_plot(evaluated):
    folder = evaluated.workspace.evaluation("first") / "curves"
    confusion = pd.read_csv(folder / "confusion.csv")
    assert list(confusion.columns) == ["actual", "predicted"]
    assert len(confusion) == len(evaluated.packed.rows("test"))
    assert list(pd.read_csv(folder / "training.csv")["epoch"]) == [1, 2, 3, 4, 5] * 2
