"""Scan: every file has its row, in fixed types, whatever the files are."""

from __future__ import annotations

import csv
import functools
import io
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.artifacts import sha256_file
from pipeline.data.duplicates import exact_clusters
from pipeline.data.listing import read_listing
from pipeline.data.manifest import GIVEN, MEASURED, read_table, to_frame
from pipeline.data.measure import (
    Limits,
    Measures,
    measure_file,
    measure_files,
    perceptual_hash,
    sharpness,
    to_grey,
    tone,
)
from pipeline.data.parallel import map_files
from pipeline.data.scan import measure_all, scan
from pipeline.errors import DataRefused, PipelineError
from pipeline.params import ScanParams
from pipeline.workspace import Workspace
from tests.crashing import deadly, defective
from tests.images import bomb, encoded, picture, with_orientation

PARAMS = ScanParams(max_pixels=1_000_000, max_bytes=100_000)
LIMITS = Limits(max_bytes=100_000, max_pixels=1_000_000)

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


# A file that ends its process costs itself alone.


def test_a_crashing_decoder_costs_only_its_file():
    names = [f"{i:03}.png" for i in range(40)]
    names[37] = "deadly.png"
    table = measure_all(names, deadly, workers=2).sort_by("file_name")
    assert table["file_name"].to_pylist() == sorted(names)
    bad = table.filter(table["status"].is_valid()).to_pylist()
    assert [row["file_name"] for row in bad if row["status"] != "ok"] == ["deadly.png"]


def test_a_defect_of_our_own_is_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        list(map_files(defective, ["a"], lambda name: [Measures(name, "")], workers=1))


# The measures.


def test_measures_of_pictures_whose_values_are_known():
    flat = Image.new("L", (50, 40), 51)
    assert tone(flat) == (0.2, 0.0, 0.0)
    assert sharpness(flat) == 0.0
    assert perceptual_hash(flat) == "0" * 16
    halves = Image.new("L", (50, 40), 0)
    halves.paste(255, (25, 0, 50, 40))
    assert tone(halves) == (0.5, 0.5, 1.0)


def test_sharpness_is_the_variance_of_the_laplacian():
    pixels = np.asarray(picture(3, size=(31, 17))).astype(int)
    laplacian = (
        pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:]
        - 4 * pixels[1:-1, 1:-1]
    )  # fmt: skip
    assert sharpness(picture(3, size=(31, 17))) == pytest.approx(laplacian.var(), rel=1e-12)


def test_sharpness_of_a_large_image_needs_only_some_rows():
    small = picture(3, size=(200, 200))
    large = Image.fromarray(np.tile(np.asarray(small), (5, 5)))
    assert sharpness(large) == pytest.approx(sharpness(small), rel=0.05)
    blurred = large.resize((250, 250)).resize((1000, 1000))
    assert sharpness(blurred) < 0.1 * sharpness(large)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 2), (3, 3), (70_000, 3), (3, 70_000)])
def test_images_of_any_shape_are_measured(tmp_path, size):
    (tmp_path / "a.png").write_bytes(encoded(picture(1, size=size)))
    row = measure_file(tmp_path, "a.png", Limits(max_bytes=10**7, max_pixels=10**6))
    assert (row.status, row.width, row.height) == ("ok", *size)
    assert row.sharpness is not None
    assert row.sharpness >= 0.0


def test_a_perceptual_hash_changes_little_when_an_image_is_compressed_again():
    smooth = [
        picture(seed, size=(8, 8)).resize((200, 160), Image.Resampling.BICUBIC) for seed in range(8)
    ]
    for image, other in itertools.pairwise(smooth):
        again = Image.open(io.BytesIO(encoded(image.resize((150, 120)), "JPEG", quality=60)))
        assert _distance(image, again) <= 6
        assert _distance(image, other) >= 16


def _distance(first: Image.Image, second: Image.Image) -> int:
    hashes = (int(perceptual_hash(to_grey(image)), 16) for image in (first, second))
    return functools.reduce(lambda a, b: a ^ b, hashes).bit_count()


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "I", "F", "YCbCr"])
def test_every_mode_has_a_grey_version(mode):
    assert (
        to_grey(picture(mode="RGB").convert("L" if mode in "IF" else "RGB").convert(mode)).mode
        == "L"
    )


def test_sixteen_bits_keep_their_range():
    image = Image.fromarray(np.array([[0, 32_768, 65_535]], dtype=np.uint16))
    assert np.asarray(to_grey(image)).tolist() == [[0, 128, 255]]


def test_a_palette_counts_by_its_colours(tmp_path):
    pixels = np.array([[0, 1], [1, 0]], dtype=np.uint8)
    for name, order in (("a.png", (0, 1)), ("b.png", (1, 0))):
        image = Image.fromarray(pixels if order == (0, 1) else 1 - pixels)
        image = image.convert("P")
        image.putpalette([c for i in order for c in ((255, 0, 0), (0, 0, 255))[i]])
        image.save(tmp_path / name)
    first, second = measure_files(tmp_path, LIMITS, ["a.png", "b.png"])
    assert first.pixel_hash == second.pixel_hash


def test_a_folder_under_an_images_name_is_no_image(tmp_path):
    (tmp_path / "a.png").mkdir()
    assert measure_file(tmp_path, "a.png", LIMITS).status == "unreadable"


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["a", "b", "c", None])))
def test_clusters_are_equal_exactly_where_hashes_are(hashes):
    clusters = exact_clusters(hashes)
    for i, first in enumerate(hashes):
        assert (clusters[i] == -1) == (first is None)
        for j, second in enumerate(hashes):
            if first is not None and second is not None:
                assert (clusters[i] == clusters[j]) == (first == second)


def test_unreadable_permissions_are_a_status(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    (tmp_path / "a.png").chmod(0)
    assert measure_file(tmp_path, "a.png", LIMITS).status == "unreadable"
