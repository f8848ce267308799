"""The files of ``data/`` are read again where they may have changed, and only there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.data.ingestion import present, version
from pipeline.data.ingestion.present import data_hashes
from pipeline.errors import DataRefused
from pipeline.workspace import Workspace
from tests.ingesting import write_image

LONG_AGO = (1_000_000_000_000_000_000,) * 2


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    """Three files in ``data/`` that changed long ago."""
    made = Workspace(tmp_path)
    for i in range(3):
        path = made.data / "images" / f"{i}.png"
        write_image(path, seed=i)
        os.utime(path, ns=LONG_AGO)
    return made


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The names of the files read since the start of the test."""
    names: list[str] = []
    real = version.copy_hashed

    def noting(path: Path, target: Path | None) -> str:
        names.append(path.name)
        return real(path, target)

    monkeypatch.setattr(version, "copy_hashed", noting)
    return names


def test_a_second_look_reads_nothing(workspace, read):
    first = data_hashes(workspace)
    assert sorted(read) == ["0.png", "1.png", "2.png"]
    read.clear()
    assert data_hashes(workspace) == first
    assert read == []
    assert first == version.folder_hashes(workspace.data)


def edit(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def replace_in_the_same_moment(path: Path) -> None:
    beside = path.with_name("new")
    beside.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(beside, ns=LONG_AGO)
    beside.replace(path)


def empty(path: Path) -> None:
    path.write_bytes(b"")
    os.utime(path, ns=LONG_AGO)


@pytest.mark.parametrize("change", [edit, replace_in_the_same_moment, empty])
def test_a_changed_file_is_read_again(workspace, read, change):
    data_hashes(workspace)
    read.clear()
    change(workspace.data / "images" / "1.png")
    changed = data_hashes(workspace)
    assert read == ["1.png"]
    assert changed == version.folder_hashes(workspace.data)


def test_a_file_that_just_changed_is_not_trusted_yet(workspace, read):
    path = workspace.data / "images" / "1.png"
    os.utime(path)
    data_hashes(workspace)
    status = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"x")  # within one tick of a coarse clock
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert data_hashes(workspace) == version.folder_hashes(workspace.data)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 0, "files": {}}', '{"format": 1, "files": 3}']
)
def test_a_damaged_memory_costs_one_reading(workspace, read, text):
    expected = data_hashes(workspace)
    (workspace.root / ".pipeline" / "data-files.json").write_text(text)
    read.clear()
    assert data_hashes(workspace) == expected
    assert len(read) == 3


def test_a_place_that_takes_no_memory_is_no_obstacle(workspace, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(present, "write_text", full)
    assert data_hashes(workspace) == version.folder_hashes(workspace.data)


def test_a_file_that_cannot_be_read_is_named_with_its_remedy(workspace):
    (workspace.data / "images" / "gone.png").symlink_to("/nowhere")
    for look in (data_hashes, lambda workspace: version.folder_hashes(workspace.data)):
        with pytest.raises(DataRefused, match=r"gone\.png: a link to nothing.*dvc checkout"):
            look(workspace)


def test_links_count_as_what_they_point_to(workspace, tmp_path):
    write_image(tmp_path / "elsewhere.png", seed=9)
    (workspace.data / "images" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    first = data_hashes(workspace)
    write_image(tmp_path / "elsewhere.png", seed=10)
    assert data_hashes(workspace)["images/link.png"] != first["images/link.png"]
