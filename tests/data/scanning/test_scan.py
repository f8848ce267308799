"""Scan: every file has its row, in fixed types, whatever the files are."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from pipeline.artifacts import sha256_file
from pipeline.data.manifest import GIVEN, MEASURED, read_table, to_frame
from pipeline.data.scanning.listing import read_listing
from pipeline.data.scanning.scan import scan
from pipeline.errors import DataRefused, PipelineError
from pipeline.params import ScanParams
from pipeline.workspace import Workspace
from tests.images import bomb, encoded, picture, with_orientation

PARAMS = ScanParams(max_pixels=1_000_000, max_bytes=100_000, timeout=60, memory=2_000)

FILES = {
    "good.png": encoded(picture(1)),
    "same_pixels.bmp": encoded(picture(1), "BMP"),
    "colour.jpg": encoded(picture(2, mode="RGB"), "JPEG"),
    "turned.jpg": with_orientation(picture(3, size=(60, 20)), 6, "JPEG"),
    "palette.png": encoded(picture(4, mode="P")),
    "clear.png": encoded(picture(5, mode="RGBA")),
    "cut.png": encoded(picture(6, size=(200, 150)))[:9_000],
    "empty.png": b"",
    "text.png": b"not an image at all",
    "bomb.png": bomb(),
    "heavy.bmp": encoded(picture(7, size=(300, 400)), "BMP"),
}
STATUS = {
    "cut.png": "truncated",
    "empty.png": "empty",
    "text.png": "unreadable",
    "bomb.png": "too_large",
    "heavy.bmp": "too_large",
    "gone.png": "missing",
    "stray.png": "unlisted",
}


def write_data(root: Path, files: dict[str, bytes], table: list[list[str]]) -> Workspace:
    workspace = Workspace(root)
    (workspace.data / "images").mkdir(parents=True)
    for name, data in files.items():
        (workspace.data / "images" / name).write_bytes(data)
    with workspace.metadata.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(table)
    return workspace


@pytest.fixture(scope="module")
def scanned(tmp_path_factory) -> Workspace:
    names = [*FILES, "gone.png"]
    table = [["file_name", "label", "code"], *([f"images/{n}", "cat", "007"] for n in names)]
    files = FILES | {"stray.png": encoded(picture(9)), ".hidden": b"of a file manager"}
    workspace = write_data(tmp_path_factory.mktemp("scan"), files, table)
    scan(workspace, PARAMS)
    return workspace


@pytest.fixture(scope="module")
def manifest(scanned):
    return to_frame(read_table(scanned.manifest)).set_index("file_name")


@pytest.mark.parametrize("name", [*FILES, "gone.png", "stray.png"])
def test_every_file_has_its_status(manifest, name):
    row = manifest.loc[f"images/{name}"]
    assert row["status"] == STATUS.get(name, "ok")
    assert (row["status"] == "ok") == (row["error"] != row["error"])  # null exactly where all is ok
    assert (row["duplicate_cluster"] >= 0) == (row["status"] == "ok")


def test_the_manifest_is_sorted_and_whole(manifest):
    assert list(manifest.index) == sorted(manifest.index)
    assert len(manifest) == len(FILES) + 2


def test_columns_and_types_do_not_depend_on_the_data(scanned):
    schema = read_table(scanned.manifest).schema
    assert schema.names == [*(n for n, _ in GIVEN), "code", *(n for n, _ in MEASURED)]
    for name, kind in (*GIVEN, *MEASURED):
        assert schema.field(name).type == kind


def test_equal_pixels_are_one_cluster_in_any_format(manifest):
    clusters = manifest["duplicate_cluster"]
    assert clusters["images/good.png"] == clusters["images/same_pixels.bmp"]
    decoded = clusters[clusters >= 0]
    assert decoded.duplicated().sum() == 1


def test_sizes_are_those_of_the_upright_image(manifest):
    row = manifest.loc["images/turned.jpg"]
    assert (row["width"], row["height"], row["exif_orientation"]) == (20, 60, 6)


def test_a_second_scan_writes_the_same_bytes(scanned):
    before = sha256_file(scanned.manifest)
    scan(scanned, PARAMS)
    assert sha256_file(scanned.manifest) == before


def test_the_summary_counts_each_status(scanned, caplog):
    caplog.set_level("INFO", "pipeline")
    scan(scanned, PARAMS)
    assert "6 images ok, 1 empty, 1 missing, 2 too_large, 1 truncated, 1 unlisted" in caplog.text


def test_a_name_that_is_no_text_does_not_end_the_scan(tmp_path):
    table = [["file_name", "label"], ["images/a.png", "cat"]]
    workspace = write_data(tmp_path, {"a.png": encoded(picture())}, table)
    try:
        Path(os.fsdecode(os.fsencode(workspace.data / "images") + b"/\xff.png")).touch()
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    scan(workspace, PARAMS)
    names = read_table(workspace.manifest)["file_name"].to_pylist()
    assert names == ["images/\\xff.png", "images/a.png"]


def test_data_without_one_readable_image_is_refused(tmp_path):
    table = [["file_name", "label"], ["images/a.png", "cat"]]
    workspace = write_data(tmp_path, {"a.png": b"text"}, table)
    with pytest.raises(DataRefused, match="not one of 1 images can be read"):
        scan(workspace, PARAMS)


# The listing: text stays what it is.


def test_text_and_numbers_of_the_table(tmp_path):
    table = [
        ["file_name", "label", "weight", "split", "angle", "count", "serial", "note"],
        ["images/b.png", "007", "0.5", "", "1.5", "3", "9007199254740993", "NA"],
        ["images/a.png", "NA", "", "train", "", "-4", "1", "=cmd()"],
    ]
    listing = read_listing(write_data(tmp_path, {}, table).metadata)
    assert listing["label"].to_pylist() == ["007", "NA"]
    assert listing["weight"].to_pylist() == [0.5, 1.0]
    assert listing["split"].to_pylist() == [None, "train"]
    assert listing["group"].to_pylist() == [None, None]
    assert listing["angle"].to_pylist() == [1.5, None]
    assert listing["count"].to_pylist() == [3, -4]
    assert listing["serial"].to_pylist() == [9007199254740993, 1]
    assert listing["note"].to_pylist() == ["NA", "=cmd()"]


@pytest.mark.parametrize("values", [["007", "8"], ["1e999", "2"], ["0x1", "2"], ["1_000", "2"]])
def test_what_only_looks_like_a_number_is_text(tmp_path, values):
    table = [["file_name", "label", "x"], *([f"{v}.png", "cat", v] for v in values)]
    assert read_listing(write_data(tmp_path, {}, table).metadata)["x"].to_pylist() == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'file_name'"),
        ("file_name\na.png\n", "no column 'label'"),
        ("file_name,label\n", "lists no images"),
        ("file_name,label,label\na.png,x,y\n", "'label' is empty or there twice"),
        ("file_name,label,width\na.png,x,3\n", "makes a column 'width' itself"),
        ("file_name,label\na.png,x,extra\n", "line 2: 3 values in a table of 2 columns"),
        ("file_name,label\na.png,x\na.png,y\n", "row 2: 'a.png' is listed twice"),
        ("file_name,label\n../a.png,x\n", "no path inside the folder"),
        ("file_name,label\n/etc/passwd,x\n", "no path inside the folder"),
        ("file_name,label,weight\na.png,x,-1\n", "weight '-1' is not a number from 0 up"),
        ("file_name,label,weight\na.png,x,nan\n", "weight 'nan'"),
        ('file_name,label\na.png,"x\n', "correct the line"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, text, message):
    path = tmp_path / "metadata.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataRefused, match=message):
        read_listing(path)


def test_a_table_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "metadata.csv"
    path.write_text("file_name,label\na.png,Käfer\n", encoding="utf-16")
    with pytest.raises(DataRefused, match="not UTF-8"):
        read_listing(path)


def test_without_data_the_message_says_how_to_get_it(tmp_path):
    with pytest.raises(PipelineError, match="data restore"):
        scan(Workspace(tmp_path), PARAMS)
