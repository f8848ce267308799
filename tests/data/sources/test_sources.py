"""Sources: what lies there is listed, whatever cannot be used is refused with its reason."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.sources import SOURCES, read_source
from pipeline.data.sources.names import safe_name
from pipeline.errors import ConfigurationError, DataRefused, PipelineError
from tests.data.sources.made import fake_cifar10, write_idx
from tests.ingesting import (
    CELLS,
    DEFECT,
    asked,
    cells,
    classes,
    dataset,
    images,
    rows,
    write_table,
)


def package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that must not be imported, with class folders inside."""
    write_table(folder / "orchard" / "__init__.py", "raise RuntimeError('imported')")
    images(folder / "orchard" / "fruit", "apple/1.png", "pear/2.png")
    monkeypatch.syspath_prepend(str(folder))
    return "package:orchard/fruit"


def metadata_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    images(folder, "1.png", "2.png")
    write_table(folder / "metadata.csv", "file_name,label", "1.png,apple", "2.png,pear")
    return str(folder)


def class_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return str(images(folder, "apple/1.png", "pear/2.png"))


def split_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return str(images(folder, "train/apple/1.png", "test/pear/2.png"))


def manifest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return f"{metadata_folder(folder, monkeypatch)}/metadata.csv"


def archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return shutil.make_archive(str(folder), "zip", class_folders(folder, monkeypatch))


def webdataset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    images(folder, "1.png", "2.png")
    with tarfile.open(folder / "shard.tar", "w") as shard:
        for key, label in (("1", "apple"), ("2", "pear")):
            shard.add(folder / f"{key}.png", f"{key}.png")
            write_table(folder / f"{key}.cls", label)
            shard.add(folder / f"{key}.cls", f"{key}.cls")
    return str(folder / "shard.tar")


def idx(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    write_idx(folder, "train", count=2, side=4, labels=[0, 1])
    return str(folder)


def remote(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    memory = fsspec.filesystem("memory")
    root = f"/{folder.parent.name}/fruit"
    memory.put(class_folders(folder, monkeypatch), root, recursive=True)
    return f"memory:/{root}/"


def torchvision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    fake_cifar10(folder.parent / "cache" / "torchvision" / "CIFAR10", monkeypatch)
    return "torchvision:CIFAR10"


EXAMPLES: dict[str, Callable[[Path, pytest.MonkeyPatch], str]] = {
    "package": package,
    "torchvision": torchvision,
    "remote": remote,
    "webdataset": webdataset,
    "archive": archive,
    "manifest": manifest,
    "imagefolder": metadata_folder,
    "idx": idx,
    "split_folders": split_folders,
    "class_folders": class_folders,
}
"""For each kind of source, how to make an image of an apple and one of a pear, and its address."""


@pytest.fixture(params=SOURCES)
def name(request) -> str:
    return request.param


@pytest.fixture
def address(name, tmp_path, monkeypatch) -> str:
    return EXAMPLES[name](tmp_path / "example", monkeypatch)


class TestEverySource:
    def test_claims_its_own_address_first(self, name, address):
        found = asked(address)
        assert next(n for n, source in SOURCES.items() if source.claims(found)) == name

    def test_lists_its_images_with_their_labels(self, name, address, tmp_path):
        data = dataset(address, work=tmp_path)
        expected = ["0", "1"] if name == "idx" else ["apple", "pear"]
        assert sorted(row["label"] for row in rows(data)) == expected
        assert classes(data) == expected
        assert all(path.is_file() for path in data.images.values())
        assert all(name.startswith("images/") for name in data.images)

    def test_says_how_its_address_is_written(self, name):
        assert len(SOURCES[name].FORM) > 10


def test_a_package_is_found_without_being_imported(tmp_path, monkeypatch):
    dataset(package(tmp_path, monkeypatch))
    assert "orchard" not in sys.modules


def test_class_folders_keep_sub_folders_and_leave_out_what_is_no_image(tmp_path):
    images(tmp_path, "cat/a.PNG", "cat/deep/er/a.png", "dog/b.jpeg", "stray.png", ".git/x.png")
    for other in ("cat/.DS_Store", "cat/Thumbs.db", "dog/README.txt", "dog/notes.csv"):
        (tmp_path / other).write_text("no image")
    data = dataset(tmp_path)
    assert list(data.images) == [
        "images/cat/a.PNG",
        "images/cat/deep/er/a.png",
        "images/dog/b.jpeg",
    ]
    assert [row["label"] for row in rows(data)] == ["cat", "cat", "dog"]
    assert data.counts == {"cat": 2, "dog": 1}
    assert data.left_out == {
        "hidden and system files": 2,
        "files that are no images by their names": 2,
        "images beside the class folders": 1,
    }


def test_a_file_that_is_no_image_inside_is_left_to_the_scan(tmp_path):
    images(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "dog" / "broken.png").write_bytes(b"no image")
    assert "images/dog/broken.png" in dataset(tmp_path).images


def empty_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def one_class(folder: Path) -> Path:
    return images(folder, "cat/a.png", "cat/b.png")


def class_without_images(folder: Path) -> Path:
    images(folder, "cat/a.png", "dog/b.png")
    (folder / "bird").mkdir()
    return folder


def split_without_a_class(folder: Path) -> Path:
    images(folder, "train/cat/a.png", "train/dog/a.png", "test/cat/b.png")
    (folder / "train" / "bird").mkdir()
    return folder


def table_of(*lines: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        images(folder, "a.png", "b.png", "c.png")
        write_table(folder / "metadata.csv", *lines)
        return folder

    return make


def unknown_class(folder: Path) -> Path:
    table_of("file_name,label", "a.png,cat", "b.png,dgo")(folder)
    (folder / "classes.json").write_text('{"classes": ["cat", "dog"]}')
    return folder


def table_through_a_link(folder: Path) -> Path:
    images(folder.parent / "else", "a.png")
    table_of("file_name,label", "link/a.png,x", "b.png,y")(folder)
    (folder / "link").symlink_to(folder.parent / "else")
    return folder


HEADER = "file_name,label"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (empty_folder, "no images in class folders"),
        (one_class, "at least two classes are needed, found only 'cat'"),
        (class_without_images, "no images of the class 'bird'"),
        (split_without_a_class, "no images of the class 'bird'"),
        (table_through_a_link, "a link that leaves"),
        (unknown_class, "'dgo' is not in the classes.json beside it; did you mean 'dog'?"),
        (table_of(HEADER, "a.png,x", "b.png,x"), "at least two classes are needed"),
        (table_of("file_name,lable", "a.png,x", "b.png,y"), "did you mean 'lable'?"),
        (table_of(f"{HEADER},split", "a.png,x,train", "b.png,y,trian"), "did you mean 'train'?"),
        (table_of(f"{HEADER},weight", "a.png,x,-1", "b.png,y,1"), "weight -1 is below 0"),
        (table_of(f"{HEADER},weight", "a.png,x,many", "b.png,y,1"), "'many' is not a number"),
        (table_of(f"{HEADER},weight", "a.png,x,inf", "b.png,y,1"), "'inf' is not a number"),
    ],
)
def test_data_that_cannot_be_used_is_refused_with_its_reason(tmp_path, make, message):
    folder = make(tmp_path / "source")
    with pytest.raises(DataRefused) as refused:
        dataset(folder)
    assert message in str(refused.value)


def test_folders_of_splits_give_the_column_split(tmp_path):
    names = ("Train/cat/a.png", "Train/dog/b.png", "validation/cat/a.png", "test/dog/sub/c.png")
    data = dataset(images(tmp_path, *names, "test/stray.png"))
    assert {row["file_name"]: (row["label"], row["split"]) for row in rows(data)} == {
        "images/Train/cat/a.png": ("cat", "train"),
        "images/Train/dog/b.png": ("dog", "train"),
        "images/validation/cat/a.png": ("cat", "val"),
        "images/test/dog/sub/c.png": ("dog", "test"),
    }
    assert data.left_out == {"images beside the class folders": 1}


def test_folders_of_splits_beside_another_are_not_taken_for_classes(tmp_path):
    folder = images(tmp_path / "a", "train/cat/1.png", "test/cat/2.png", "unlabelled/3.png")
    with pytest.raises(DataRefused, match=r"test, train hold class folders.*unlabelled"):
        read_source(asked(folder, work=tmp_path))


def test_accents_are_one_however_they_are_written(tmp_path):
    composed, apart = "gr\u00fcn", "gru\u0308n"
    folder = images(tmp_path / "a", f"{apart}/1.png", "rot/2.png")
    assert read_source(asked(folder, work=tmp_path)).columns["label"] == [composed, "rot"]
    write_table(folder / "metadata.csv", "file_name,label", f"{composed}/1.png,a", "rot/2.png,b")
    listing = read_source(asked(folder, work=tmp_path))
    assert listing.columns["file_name"] == [f"{apart}/1.png", "rot/2.png"]


def test_names_in_a_zip_without_the_mark_of_utf8_are_read_as_that(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for name in ("größe/1.png", "süß/2.png"):
            packed.writestr(name, b"x")
    content = path.read_bytes()
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        parts = content.split(signature)
        marks = [part[: place - 4] + b"\0\0" + part[place - 2 :] for part in parts[1:]]
        content = signature.join([parts[0], *marks])
    path.write_bytes(content)
    assert read_source(asked(path, work=tmp_path)).columns["label"] == ["größe", "süß"]


def test_a_table_of_another_suffix_is_answered_at_once(tmp_path):
    folder = images(tmp_path / "a", *(f"{i}.jpeg" for i in range(400)))
    lines = [f"{i}.jpg,{'ab'[i % 2]}" for i in range(400)]
    write_table(folder / "metadata.csv", "file_name,label", *lines)
    start = time.process_time()
    with pytest.raises(DataRefused, match=r"400 of 400 files are missing: '0.jpg' .line 2, did"):
        read_source(asked(folder, work=tmp_path))
    assert time.process_time() - start < 2


def test_a_class_called_test_beside_others_is_a_class(tmp_path):
    data = dataset(images(tmp_path, "test/a.png", "passed/b.png"))
    assert data.counts == {"passed": 1, "test": 1}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("package:elpv_datasset/data", "did you mean 'elpv_dataset'?"),
        ("package:elpv_dataset/dat", "did you mean 'data'?"),
        ("package:elpv_dataset/../..", "is no address of the form package:NAME/FOLDER"),
        ("package:os.path/x", "is no address of the form package:NAME/FOLDER"),
        ("pakage:elpv_dataset/data", "did you mean 'package'?"),
        ("cells", "expected:\n    package:NAME/FOLDER"),
        ("torchvision:CIFAR1", "did you mean 'CIFAR10'?"),
        ("pipe:cat x.tar", "a command is never run"),
        ("{folder}/flowes", "did you mean 'flowers'?"),
        ("{folder}/flowers/cat/a.png", "is a file, but none of a kind"),
        ("{folder}", "holds the project itself"),
    ],
)
def test_a_wrong_address_is_answered_with_the_nearest(tmp_path, address, message):
    images(tmp_path, "flowers/cat/a.png")
    project = tmp_path / "project"
    project.mkdir()
    shown = address.format(folder=tmp_path)
    with pytest.raises(ConfigurationError) as refused:
        read_source(dataclasses.replace(asked(shown, work=tmp_path), base=project))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("table", "rule", "message"),
    [
        (CELLS.model_copy(update={"file": "lables.csv"}), DEFECT, "did you mean 'labels.csv'?"),
        (CELLS, DEFECT.model_copy(update={"column": "probabilty"}), "did you mean 'probability'?"),
        (CELLS.model_copy(update={"file": "../labels.csv"}), DEFECT, "ingest.table.file"),
    ],
)
def test_settings_that_do_not_fit_the_configured_source_are_named(tmp_path, table, rule, message):
    with pytest.raises(PipelineError) as refused:
        dataset(cells(tmp_path), table, rule)
    assert message in str(refused.value)


@given(name=st.text(max_size=40))
def test_a_name_that_is_accepted_stays_inside_and_keeps_its_shortest_form(name):
    try:
        safe = safe_name(name, "here")
    except DataRefused:
        return
    folder = Path("/base/folder")
    assert (folder / safe).resolve().is_relative_to(folder)
    assert safe_name(safe, "here") == safe
    assert "\n" not in safe.encode().decode()
