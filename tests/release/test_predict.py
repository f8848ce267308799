"""Labelling images with the champion."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.data.pack import Packed
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.evaluation.predictions import Predictions
from pipeline.release.predict import load_champion, predict
from pipeline.release.register import register
from pipeline.vision.temperature import read_temperature, rescale


@pytest.fixture(scope="session")
def released(make_project):
    project = make_project()
    register(project.workspace, project.params)
    return project


def predict_with(project, *paths, output=None):
    predict(project.workspace, project.params.register_, paths, output)


def test_the_champion_says_of_files_what_its_evaluation_says(released, tmp_path):
    workspace = released.workspace
    output = tmp_path / "labels.csv"
    predict_with(released, workspace.data, output=output)
    table = pd.read_csv(output)
    assert len(table) == len(Packed.load(workspace.packed).index)
    table["file_name"] = [str(name).removeprefix(f"{workspace.data}/") for name in table["file"]]
    evaluated = Predictions.read(workspace.evaluation("good") / "predictions.parquet").table
    both = evaluated.merge(table, on="file_name", suffixes=("", "_said"))
    assert len(both) == len(evaluated)
    temperature = read_temperature(workspace.evaluation("good"))
    assert temperature != 1.0
    names = ["p_bar", "p_disc"]
    calibrated = rescale(both[names].to_numpy(float), temperature)
    assert np.abs(calibrated - both[[f"{name}_said" for name in names]].to_numpy()).max() < 1e-4
    assert (both["label_said"] == both["predicted"].map({0: "bar", 1: "disc"})).all()
    assert np.allclose(both["probability"], both[["p_bar_said", "p_disc_said"]].max(axis=1))


def test_unreadable_files_are_listed_and_counted_and_not_fatal(released, tmp_path, caplog):
    folder = tmp_path / "photographs" / "deeper"
    folder.mkdir(parents=True)
    shutil.copy(next((released.workspace.data / "images").iterdir()), folder / "good.png")
    (folder / "broken.JPG").write_bytes(b"no image")
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not looked at")
    output = tmp_path / "labels.csv"
    predict_with(released, tmp_path / "photographs", output=output)
    table = pd.read_csv(output, index_col="file")
    assert list(table.columns) == ["label", "probability", "p_bar", "p_disc", "error"]
    assert [name.rpartition("/")[2] for name in table.index] == [
        "broken.JPG",
        "empty.png",
        "good.png",
    ]
    assert list(table["label"].isna()) == list(table["error"].notna()) == [True, True, False]
    assert "2 of 3 files could not be read" in caplog.text


def test_nothing_but_unreadable_files_is_a_table_of_errors(released, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    output = tmp_path / "labels.csv"
    predict_with(released, tmp_path / "broken.png", output=output)
    assert len(pd.read_csv(output)) == 1


def test_a_named_file_is_read_whatever_its_name_and_size(released, tmp_path):
    Image.new("RGB", (50, 30), "white").save(tmp_path / "upload", "JPEG")
    output = tmp_path / "labels.csv"
    predict_with(released, tmp_path / "upload", output=output)
    (row,) = pd.read_csv(output).to_dict("records")
    assert row["label"] in {"bar", "disc"}


def test_without_output_the_table_goes_to_standard_output_alone(released, tmp_path, capsys):
    image = next((released.workspace.data / "images").iterdir())
    predict_with(released, image)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "file,label,probability,p_bar,p_disc,error"
    assert len(lines) == 2


def test_a_reader_that_has_seen_enough_is_no_error(released, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as closed_pipe:
        monkeypatch.setattr("sys.stdout", closed_pipe)
        predict_with(released, released.workspace.data)


def test_more_images_than_a_batch_come_in_order(released, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.release.predict.BATCH", 7)
    output = tmp_path / "labels.csv"
    predict_with(released, released.workspace.data, output=output)
    files = list(pd.read_csv(output)["file"])
    assert files == sorted(files)
    assert len(files) == 160


def test_a_path_that_is_not_there_is_refused_before_anything_is_written(released, tmp_path):
    output = tmp_path / "labels.csv"
    with pytest.raises(ConfigurationError, match=r"nowhere\.png: does not exist"):
        predict_with(released, tmp_path / "nowhere.png", output=output)
    assert not output.exists()


def test_a_folder_without_images_is_refused(released, tmp_path):
    with pytest.raises(ConfigurationError, match="holds no images"):
        predict_with(released, tmp_path)


def test_an_output_that_is_a_folder_is_refused(released, tmp_path):
    with pytest.raises(ConfigurationError, match="is a folder"):
        predict_with(released, released.workspace.data, output=tmp_path)


def test_without_a_champion_it_says_how_to_get_one(project, tmp_path):
    Image.new("L", (9, 9)).save(tmp_path / "image.png")
    with pytest.raises(PipelineError, match=r"shapes has no champion.*make run"):
        predict_with(project, tmp_path / "image.png")


def test_a_champion_of_another_size_is_asked_about_the_original_files(released):
    workspace = released.workspace
    packed = Packed.load(workspace.packed)
    champion = load_champion(workspace, released.params.register_)
    rows = packed.rows("test")
    stored = champion.probabilities_of_packed(workspace, packed, rows)
    other_size = replace(packed, images=packed.images[:, ::2, ::2], image_size=8)
    original = champion.probabilities_of_packed(workspace, other_size, rows)
    assert np.abs(stored - original).max() < 1e-6
    gone = replace(other_size, index=packed.index.assign(file_name="images/gone.png"))
    with pytest.raises(PipelineError, match="data restore"):
        champion.probabilities_of_packed(workspace, gone, rows)
