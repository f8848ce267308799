"""Files get into a new version with one reading each, and without a copy where none is needed."""

from __future__ import annotations

import errno
import os
import zipfile
from pathlib import Path

import pytest

from pipeline.data.ingestion import staging, swap, version
from pipeline.data.ingestion.ingest import ingest
from pipeline.data.ingestion.staging import Staging
from tests.ingesting import write_image


@pytest.fixture
def data(tmp_path) -> Path:
    """A version of two images."""
    for i in range(2):
        write_image(tmp_path / "data" / "images" / f"{i}.png", seed=i)
    return tmp_path / "data"


@pytest.fixture
def staged(tmp_path, data) -> Staging:
    (tmp_path / "incoming").mkdir()
    (tmp_path / "scratch").mkdir()
    return Staging(
        tmp_path / "incoming",
        data=data,
        present=version.folder_hashes(data),
        scratch=tmp_path / "scratch",
    )


def named(name: str | None):
    return lambda _: name


def test_a_kept_file_is_the_same_file(staged, data):
    staged.keep("images/0.png")
    assert (staged.folder / "images/0.png").samefile(data / "images/0.png")
    assert staged.shared
    assert not staged.linked_to_cache


def test_a_kept_link_stays_a_link(staged, data, tmp_path):
    cached = (data / "images/0.png").rename(tmp_path / "cached")
    (data / "images/0.png").symlink_to(cached)
    staged.keep("images/0.png")
    assert (staged.folder / "images/0.png").readlink() == cached
    assert staged.linked_to_cache


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_where_no_hard_link_can_be_the_file_is_copied(staged, data, monkeypatch, number):
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refused)
    staged.keep("images/0.png")
    copy = staged.folder / "images/0.png"
    assert copy.read_bytes() == (data / "images/0.png").read_bytes()
    assert not copy.samefile(data / "images/0.png")


def test_a_full_disk_is_no_reason_to_copy(staged, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space left"):
        staged.keep("images/0.png")


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("place", ["source", "scratch"])
class TestTake:
    @pytest.fixture
    def original(self, tmp_path, place, in_memory, monkeypatch) -> Path:
        monkeypatch.setattr(staging, "_IN_MEMORY", 1 << 20 if in_memory else 1)
        path = tmp_path / place / "a.png"
        write_image(path, seed=0)
        path.chmod(0o600)
        return path

    def test_brings_in_what_is_new(self, staged, original, place):
        content, md5 = original.read_bytes(), version.copy_hashed(original, None)
        staged.take(original, named("images/new.png"))
        target = staged.folder / "images/new.png"
        assert target.read_bytes() == content
        assert staged.hashes == {"images/new.png": md5}
        assert staged.bytes_in == len(content)
        # A source's own file stays its own; what was unpacked is moved, not copied.
        assert original.exists() == (place == "source")

    def test_keeps_the_file_of_data_where_it_is_that_very_one(self, staged, original, data):
        staged.take(original, named("images/0.png"))
        assert (staged.folder / "images/0.png").samefile(data / "images/0.png")
        assert staged.bytes_in == 0

    def test_leaves_nothing_of_what_has_no_place(self, staged, original):
        staged.take(original, named(None))
        assert staged.hashes == {}
        assert [path for path in staged.folder.rglob("*") if path.is_file()] == []


class TestScratch:
    def test_is_empty_and_on_the_file_system_of_data_and_gone_at_the_end(self, source_empty):
        workspace = source_empty.workspace
        with swap.scratch_folder(workspace) as scratch:
            assert [*scratch.iterdir()] == []
            assert scratch.stat().st_dev == workspace.root.stat().st_dev
            (scratch / "unpacked").mkdir()
        assert source_empty.leftovers() == []

    def test_is_gone_after_a_failure_too(self, source_empty):
        def fail() -> None:
            with swap.scratch_folder(source_empty.workspace) as scratch:
                (scratch / "unpacked").mkdir()
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fail()
        assert source_empty.leftovers() == []

    def test_of_a_killed_ingest_goes_with_the_next(self, source_empty):
        left = source_empty.workspace.root / ".pipeline" / "ingest" / "scratch" / "0.png"
        write_image(left, seed=0)
        swap.recover(source_empty.workspace)
        assert source_empty.leftovers() == []

    @pytest.mark.slow
    def test_an_archive_gives_the_version_of_its_folder(self, source_ingested, tmp_path, caplog):
        project = source_ingested
        archive = tmp_path / "images.zip"
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(project.source.rglob("*.png")):
                file.write(path, path.relative_to(project.source))
        with caplog.at_level("INFO", "pipeline"):
            ingest(project.workspace, project.params, str(archive))
        assert "nothing changed" in caplog.text
        assert project.leftovers() == []
