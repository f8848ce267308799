"""The canonical layout: labels, weights and names, from whatever a source says of its images."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.ingestion.canonical import build_dataset, read_batch
from pipeline.data.scanning.listing import read_listing
from pipeline.data.sources import Listing
from pipeline.errors import DataRefused
from pipeline.params import IngestParams, LabelRule
from tests.ingesting import (
    CELLS,
    DEFECT,
    LIMITS,
    SURE,
    cells,
    classes,
    dataset,
    images,
    rows,
    write_table,
)


def test_solar_cells_get_labels_weights_and_keep_their_columns(tmp_path):
    data = dataset(cells(tmp_path), CELLS, DEFECT, SURE)
    assert data.metadata.decode().splitlines() == [
        "file_name,label,weight,probability,cell_type",
        "images/0.png,functional,1.0,0.0,mono",
        "images/1.png,functional,0.333333,0.3333333333333333,poly",
        "images/2.png,defective,0.333333,0.6666666666666666,poly",
        "images/3.png,defective,1.0,1.0,mono",
    ]
    assert classes(data) == ["functional", "defective"]


def test_the_order_of_rows_in_the_source_changes_nothing(tmp_path):
    first = dataset(cells(tmp_path), CELLS, DEFECT, SURE)
    table = tmp_path / "labels.csv"
    write_table(table, *reversed(table.read_text().splitlines()))
    again = dataset(tmp_path, CELLS, DEFECT, SURE)
    assert again.metadata == first.metadata
    assert list(again.images) == list(first.images)


def test_labels_stay_text_and_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    images(tmp_path, "a.png", "b.png", "c.png", "d.png")
    text = "\ufefffile_name,label,note\r\na.png,007,\r\nb.png,NA,1e5\r\nc.png, 7,\r\nd.png,  ,x\r\n"
    (tmp_path / "metadata.csv").write_text(text, encoding="utf-8", newline="")
    data = dataset(tmp_path)
    assert [row["label"] for row in rows(data)] == ["007", "NA", " 7", ""]
    assert [row["note"] for row in rows(data)] == ["", "1e5", "", "x"]
    assert classes(data) == [" 7", "007", "NA"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("images/a.png", "images/b.png"), ["images/a.png", "images/b.png"]),
        (("./a.png", "x//b.png"), ["images/a.png", "images/x/b.png"]),
        (("images/a.png", "a.png"), ["images/a.png", "images/images/a.png"]),
    ],
)
def test_names_in_the_layout_are_unique_and_the_prefix_is_not_doubled(tmp_path, names, expected):
    images(tmp_path, *names)
    write_table(tmp_path / "metadata.csv", "file_name,label", f"{names[0]},x", f"{names[1]},y")
    assert list(dataset(tmp_path).images) == expected


def test_split_and_group_come_first_and_weights_of_one_are_left_out(tmp_path):
    images(tmp_path, "a.png", "b.png")
    header = "cell_type,group,file_name,split,label,weight"
    write_table(tmp_path / "metadata.csv", header, "mono,g1,a.png,test,x,1", "poly,g2,b.png,,y,")
    header, first, _ = dataset(tmp_path).metadata.decode().splitlines()
    assert header == "file_name,label,split,group,cell_type"
    assert first == "images/a.png,x,test,g1,mono"


def test_the_version_of_another_project_is_read_as_it_is(tmp_path):
    original = dataset(cells(tmp_path / "cells"), CELLS, DEFECT, SURE)
    other = tmp_path / "other"
    for name, path in original.images.items():
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes(path.read_bytes())
    (other / "metadata.csv").write_bytes(original.metadata)
    (other / "classes.json").write_bytes(original.classes)
    again = dataset(other, CELLS, DEFECT, SURE, configured=False)
    assert (again.metadata, again.classes) == (original.metadata, original.classes)


class TestRulesOfTheConfiguredSource:
    """A folder named on the command line is read by its own columns where it has them."""

    def test_do_not_touch_class_folders(self, tmp_path):
        images(tmp_path, "cat/a.png", "dog/b.png")
        data = dataset(tmp_path, CELLS, DEFECT, SURE, configured=False)
        assert classes(data) == ["cat", "dog"]
        assert not any(note.startswith("label:") for note in data.notes)

    def test_do_not_touch_a_table_with_labels(self, tmp_path):
        images(tmp_path, "a.png", "b.png")
        write_table(
            tmp_path / "metadata.csv",
            "file_name,label,probability,weight",
            "a.png,x,0.9,2",
            "b.png,y,0.1,0.5",
        )
        data = dataset(tmp_path, CELLS, DEFECT, SURE, configured=False)
        assert [(row["label"], row["weight"]) for row in rows(data)] == [("x", "2.0"), ("y", "0.5")]

    def test_make_the_labels_that_a_table_lacks(self, tmp_path):
        data = dataset(cells(tmp_path), CELLS, DEFECT, SURE, configured=False)
        assert data.counts == {"functional": 2, "defective": 2}
        assert any("ingest.label" in note for note in data.notes)

    def test_go_before_the_plain_columns_of_their_own_source(self, tmp_path):
        images(tmp_path, "a.png", "b.png")
        write_table(
            tmp_path / "metadata.csv",
            "file_name,label,probability",
            "a.png,x,0.9",
            "b.png,y,0.1",
        )
        data = dataset(tmp_path, None, DEFECT, None)
        assert [row["label"] for row in rows(data)] == ["defective", "functional"]

    def test_keep_the_numbers_they_read_from_the_column_they_make(self, tmp_path):
        images(tmp_path, "a.png", "b.png")
        write_table(tmp_path / "metadata.csv", "file_name,label", "a.png,0.9", "b.png,0.1")
        rule = LabelRule(column="label", at_least=0.5, classes=("low", "high"))
        found = [(row["label"], row["label_value"]) for row in rows(dataset(tmp_path, None, rule))]
        assert found == [("high", "0.9"), ("low", "0.1")]


def test_a_value_that_no_rule_can_read_is_named_with_its_line(tmp_path):
    cells(tmp_path)
    table = tmp_path / "labels.csv"
    write_table(table, *table.read_text().replace("0.0 ", "low ").splitlines())
    with pytest.raises(DataRefused, match=r"labels.csv, line 2: probability 'low' is not a number"):
        dataset(tmp_path, CELLS, DEFECT)


@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=2, max_size=8))
def test_any_text_in_a_table_reaches_the_next_stage_unchanged(tmp_path_factory, texts):
    names = [f"{i}.png" for i in range(len(texts))]
    labels = [("x", "y")[i % 2] for i in range(len(texts))]
    listing = Listing(
        folder=Path("/source"),
        columns={"file_name": names, "label": labels, "note": texts},
        origin="metadata.csv",
        lines=list(range(len(names))),
    )
    params = IngestParams(
        source="x", mode="replace", table=None, label=None, weight=None, limits=LIMITS
    )
    written = build_dataset(read_batch(listing, params, configured=True)).metadata
    path = tmp_path_factory.mktemp("table") / "metadata.csv"
    path.write_bytes(written)
    note = [row["note"] for row in csv.DictReader(path.open(encoding="utf-8", newline=""))]
    assert note == texts
    assert read_listing(path).num_rows == len(texts)
