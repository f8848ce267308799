from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.artifacts import sha256_file, write_json
from pipeline.data.pack import Packed
from pipeline.errors import ConfigurationError, DataRefused, PipelineError
from pipeline.evaluation.evaluate import evaluate, softmax
from pipeline.evaluation.predictions import Predictions
from pipeline.vision.metrics import METRICS


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
    folders = [workspace.evaluation("first"), workspace.report("first")]
    before = [files_of(folder) for folder in folders]
    evaluate(workspace, evaluated.params, "first")
    assert [files_of(folder) for folder in folders] == before


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


def test_softmax_of_large_logits_neither_overflows_nor_loses_its_sum():
    logits = np.array([[1e4, 0.0, -1e4], [3.0, 3.0, 3.0]], np.float32)
    probabilities = softmax(logits)
    np.testing.assert_allclose(probabilities, [[1, 0, 0], [1 / 3] * 3], atol=1e-12)


def test_curves_are_tables_that_dvc_can_plot(evaluated):
    folder = evaluated.workspace.evaluation("first") / "curves"
    confusion = pd.read_csv(folder / "confusion.csv")
    assert list(confusion.columns) == ["actual", "predicted"]
    assert len(confusion) == len(evaluated.packed.rows("test"))
    assert list(pd.read_csv(folder / "training.csv")["epoch"]) == [1, 2, 3, 4, 5] * 2
