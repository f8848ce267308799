from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.predictions import Predictions
from tests.evaluation.synthetic import make_packed, make_predictions


def test_predictions_come_back_as_they_were_written(tmp_path):
    predictions = make_predictions(make_packed(classes=5))
    predictions.write(tmp_path / "predictions.parquet")
    again = Predictions.read(tmp_path / "predictions.parquet")
    pd.testing.assert_frame_equal(again.table, predictions.table)
    assert (again.classes, again.parameters) == (predictions.classes, 1234)
    assert (again.weights_sha256, again.data_digest) == ("a" * 64, "d" * 64)


def test_equal_predictions_are_equal_bytes(tmp_path):
    for name in ("first", "second"):
        make_predictions(make_packed()).write(tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_row_says_what_was_true_and_what_was_predicted():
    packed = make_packed(classes=3)
    table = make_predictions(packed).table
    scores = table[[f"p_{name}" for name in packed.classes]].to_numpy()
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(table["predicted"], scores.argmax(axis=1))
    np.testing.assert_array_equal(table["correct"], table["predicted"] == table["target"])
    assert set(table["split"]) == {"val", "test"}


def test_a_column_of_the_data_does_not_hide_one_of_ours():
    predictions = make_predictions(make_packed())
    assert predictions.table["correct"].dtype == bool
    assert set(predictions.table["data_correct"]) == {"yes", "no"}
    assert predictions.extra_columns == ("camera", "exposure", "serial", "data_correct")


def test_images_of_a_group_are_related_and_those_without_one_are_on_their_own(tmp_path):
    packed = make_packed()
    assert make_predictions(packed).samples["test"].groups is None
    groups = [None if i < 30 else f"g{i // 9}" for i in range(90)]
    grouped = replace(packed, index=packed.index.assign(group=groups))
    predictions = make_predictions(grouped)
    predictions.write(tmp_path / "predictions.parquet")
    predictions = Predictions.read(tmp_path / "predictions.parquet")
    assert "group" not in predictions.extra_columns
    numbers = predictions.samples["test"].groups
    given = grouped.index["group"][grouped.rows("test")].tolist()
    assert len(set(numbers[:10])) == 10
    for number, name in zip(numbers, given, strict=True):
        if isinstance(name, str):
            assert (numbers == number).tolist() == [each == name for each in given]


def test_the_test_rows_stand_in_the_order_of_the_packed_data():
    packed = make_packed()
    table = make_predictions(packed).of_split("test")
    expected = packed.index["file_name"].iloc[packed.rows("test")]
    assert list(table["file_name"]) == list(expected)


def test_a_table_that_does_not_name_its_model_is_refused(tmp_path):
    make_predictions(make_packed()).table.to_parquet(tmp_path / "predictions.parquet")
    with pytest.raises(PipelineError, match=r"classes.*dvc repro"):
        Predictions.read(tmp_path / "predictions.parquet")
