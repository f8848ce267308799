"""IDX files become PNGs without loss; headers that lie are refused."""

from __future__ import annotations

import dataclasses
import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from pipeline.data.sources import read_source
from pipeline.errors import ConfigurationError, DataRefused
from tests.data.sources.made import idx_images, idx_labels, write_idx
from tests.ingesting import LIMITS, asked


def test_train_and_test_files_become_splits(tmp_path):
    folder = tmp_path / "source"
    write_idx(folder, "train", count=3, side=5, labels=[7, 0, 7], packed=True)
    write_idx(folder, "t10k", count=2, side=5, labels=[0, 7])
    listing = read_source(asked(folder, work=tmp_path))
    assert list(zip(*listing.columns.values(), strict=True)) == [
        ("t10k/0.png", "0", "test"),
        ("t10k/1.png", "7", "test"),
        ("train/0.png", "7", "train"),
        ("train/1.png", "0", "train"),
        ("train/2.png", "7", "train"),
    ]
    with Image.open(listing.folder / "train" / "1.png") as image:
        pixels = np.asarray(image)
    assert np.array_equal(pixels.ravel(), np.arange(25, 50))


def test_the_file_of_images_is_an_address_too(tmp_path):
    write_idx(tmp_path / "s", "train", count=2, side=2, labels=[0, 1])
    write_idx(tmp_path / "s", "letters", count=3, side=2, labels=[0, 1, 2])
    file = tmp_path / "s" / "letters-images-idx3-ubyte"
    listing = read_source(asked(file, work=tmp_path))
    assert listing.columns["label"] == ["0", "1", "2"]
    assert "split" not in listing.columns


def test_an_address_may_name_its_kind(tmp_path):
    write_idx(tmp_path / "s", "train", count=2, side=2, labels=[0, 1])
    listing = read_source(asked(f"idx:{tmp_path / 's'}", work=tmp_path))
    assert listing.columns["label"] == ["0", "1"]


def test_a_folder_of_such_a_name_is_itself(tmp_path):
    write_idx(tmp_path / "idx:s", "train", count=2, side=2, labels=[0, 1])
    request = dataclasses.replace(asked("idx:s", work=tmp_path), base=tmp_path)
    assert read_source(request).columns["label"] == ["0", "1"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("webdataset:s", r"'webdataset:s' is not what it is said to be; expected WebDataset"),
        ("idx:missing", r"there is no 'idx:missing'"),
    ],
)
def test_a_kind_that_an_address_is_not_of_is_refused(tmp_path, address, message):
    write_idx(tmp_path / "s", "train", count=2, side=2, labels=[0, 1])
    with pytest.raises(ConfigurationError, match=message):
        read_source(dataclasses.replace(asked(address, work=tmp_path), base=tmp_path))


def test_colour_has_four_dimensions(tmp_path):
    (tmp_path / "images-idx4-ubyte").write_bytes(
        struct.pack(">HBBIIII", 0, 8, 4, 2, 2, 3, 3) + bytes(range(36))
    )
    (tmp_path / "labels-idx1-ubyte").write_bytes(idx_labels([0, 1]))
    listing = read_source(asked(tmp_path, work=tmp_path))
    with Image.open(listing.folder / listing.columns["file_name"][1]) as image:
        assert (image.mode, image.size) == ("RGB", (3, 2))


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({IMAGES: idx_images(3)}, f"0 files of labels for {IMAGES}, expected {LABELS}"),
        ({LABELS: idx_labels([1])}, "IDX labels without images"),
        ({IMAGES: idx_images(3), LABELS: idx_labels([1, 2])}, "3 images in"),
        ({IMAGES: idx_images(3, claimed=4), LABELS: idx_labels([1, 2, 3, 4])}, "fewer items than"),
        ({IMAGES: idx_images(3, claimed=2), LABELS: idx_labels([1, 2])}, "more items than the 2"),
        ({IMAGES: idx_images(2), LABELS: idx_labels([1, 2, 3], claimed=2)}, "more items than"),
        ({IMAGES: idx_images(2), LABELS: idx_labels([1], claimed=2)}, "fewer items than the 2"),
        ({IMAGES: idx_images(2, claimed=1 << 31), LABELS: idx_labels([1])}, "ingest.limits.files"),
        ({IMAGES: struct.pack(">HBBIII", 0, 8, 3, 1, 0, 4), LABELS: idx_labels([1])}, "(0, 4)"),
        (
            {IMAGES: struct.pack(">HBBIII", 0, 8, 3, 1, 60_000, 60_000), LABELS: idx_labels([1])},
            "ingest.limits.bytes",
        ),
        ({IMAGES: struct.pack(">HBBIII", 0, 13, 3, 1, 1, 1), LABELS: idx_labels([1])}, "type 0x0d"),
        ({IMAGES: b"\x89PNG", LABELS: idx_labels([1])}, "no IDX file"),
        ({IMAGES: idx_images(1)[:7], LABELS: idx_labels([1])}, "ends within its header"),
        (
            {f"{IMAGES}.gz": gzip.compress(idx_images(1))[:20], LABELS: idx_labels([1])},
            "cannot be unpacked",
        ),
        (
            {
                f"{IMAGES}.gz": gzip.compress(idx_images(4000, 100)),
                LABELS: idx_labels([1] * 4000),
            },
            "like a bomb",
        ),
        ({IMAGES: idx_images(1), f"{IMAGES}.gz": b"", LABELS: idx_labels([1])}, "keep one of them"),
        ({IMAGES: idx_images(1), LABELS: idx_labels([1]), f"x-{IMAGES}": idx_images(1),
          f"x-{LABELS}": idx_labels([1])}, "name the file of one"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path, files, message):
    source = tmp_path / "source"
    source.mkdir()
    for name, content in files.items():
        (source / name).write_bytes(content)
    limits = LIMITS.model_copy(update={"ratio": 20.0})
    with pytest.raises(DataRefused) as refused:
        read_source(asked(source, work=tmp_path, limits=limits))
    assert message in str(refused.value)
    assert not (tmp_path / "scratch").exists()
