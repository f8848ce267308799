"""Ingest: any source becomes the version in ``data/``, and nothing ever stands there by halves."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from pipeline.data.ingestion import dvc_locks, staging, version
from pipeline.data.ingestion.ingest import ingest
from pipeline.data.ingestion.restore import restore
from pipeline.errors import Busy, DataRefused, PipelineError
from pipeline.workspace import Workspace
from tests.ingesting import PROJECT, SourceProject, a_changed_source, write_image, write_table

Place = Callable[[str], str | None]


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def assert_as_it_was(project: SourceProject, before: str, data_dvc: str) -> None:
    assert version.folder_md5(project.workspace.data) == before
    assert project.workspace.data_dvc.read_text() == data_dvc
    assert project.leftovers() == []


class TestIngest:
    def test_writes_the_layout_and_records_it(self, source_ingested):
        workspace = source_ingested.workspace
        assert files(workspace.data) == {"metadata.csv", "classes.json"} | {
            f"images/{'cat' if i % 2 else 'dog'}/{i:02}.png" for i in range(12)
        }
        original = source_ingested.source / "dog" / "00.png"
        copy = workspace.data / "images" / "dog" / "00.png"
        assert copy.read_bytes() == original.read_bytes()
        assert not copy.is_symlink()
        assert workspace.metadata.read_bytes().startswith(
            b"file_name,label\nimages/cat/01.png,cat\n"
        )
        assert json.loads(workspace.classes.read_text()) == {"classes": ["cat", "dog"]}
        assert version.recorded(workspace) == version.folder_md5(workspace.data)
        assert source_ingested.leftovers() == []

    def test_data_dvc_says_nothing_of_the_machine_or_the_moment(self, source_ingested):
        (output,) = yaml.safe_load(source_ingested.workspace.data_dvc.read_text())["outs"]
        assert set(output) == {"md5", "size", "nfiles", "hash", "path"}
        assert output["path"] == "data"

    def test_an_equal_version_leaves_all_untouched(self, source_ingested, caplog):
        workspace = source_ingested.workspace
        before = (workspace.data.stat().st_ino, workspace.data_dvc.stat().st_mtime_ns)
        with caplog.at_level("INFO", "pipeline"):
            ingest(workspace, source_ingested.params)
        assert (workspace.data.stat().st_ino, workspace.data_dvc.stat().st_mtime_ns) == before
        assert "nothing changed" in caplog.text

    def test_a_new_version_takes_the_place_and_says_what_changed(self, source_ingested, caplog):
        workspace = source_ingested.workspace
        a_changed_source(source_ingested)
        with caplog.at_level("INFO", "pipeline"):
            ingest(workspace, source_ingested.params)
        assert version.recorded(workspace) == version.folder_md5(workspace.data)
        for line in ("2  added", "2  removed", "1  with other bytes", "cat          6          5"):
            assert line in caplog.text
        assert source_ingested.leftovers() == []

    def test_changes_that_nobody_recorded_are_not_overwritten(self, source_ingested):
        workspace = source_ingested.workspace
        edited = workspace.metadata.read_text().replace("01.png,cat", "01.png,dog")
        workspace.metadata.write_text(edited)
        a_changed_source(source_ingested)
        with pytest.raises(DataRefused, match=r"changes that data\.dvc does not record"):
            ingest(workspace, source_ingested.params)
        assert workspace.metadata.read_text() == edited
        assert source_ingested.leftovers() == []

    def test_a_column_that_the_pipeline_makes_itself_is_refused_beforehand(self, source_ingested):
        write_table(
            source_ingested.source / "metadata.csv",
            "file_name,label,sha256",
            "cat/01.png,cat,0",
            "dog/00.png,dog,0",
        )
        before = version.folder_md5(source_ingested.workspace.data)
        text = source_ingested.workspace.data_dvc.read_text()
        with pytest.raises(DataRefused, match="a column 'sha256' itself") as refused:
            ingest(source_ingested.workspace, source_ingested.params)
        assert str(source_ingested.source) in str(refused.value)
        assert_as_it_was(source_ingested, before, text)

    def test_an_image_that_cannot_be_copied_is_named(self, source_empty):
        (source_empty.source / "cat" / "gone.png").symlink_to("01.png.part")
        real = staging.Staging.take

        def vanishing(self: staging.Staging, original: Path, place: Place) -> None:
            real(self, original.with_name("gone.png"), place)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(staging.Staging, "take", vanishing)
            with pytest.raises(DataRefused, match=r"gone\.png: .*ingest again"):
                ingest(source_empty.workspace, source_empty.params)
        assert not source_empty.workspace.data.exists()
        assert source_empty.leftovers() == []

    def test_a_dvc_that_fails_leaves_the_version_before(self, source_ingested, monkeypatch):
        a_changed_source(source_ingested)
        before = version.folder_md5(source_ingested.workspace.data)
        text = source_ingested.workspace.data_dvc.read_text()

        def failing(*_: object) -> subprocess.CompletedProcess[str]:
            source_ingested.workspace.data_dvc.write_text("outs: []\n")
            words = "ERROR: unexpected error - [Errno 28] No space left on device\n"
            return subprocess.CompletedProcess([], 255, "", words)

        with monkeypatch.context() as patched:
            patched.setattr(version, "run_dvc", failing)
            with pytest.raises(PipelineError, match="disk is full, so DVC could not"):
                ingest(source_ingested.workspace, source_ingested.params)
        assert_as_it_was(source_ingested, before, text)

    def test_a_version_that_dvc_stored_in_part_is_undone_though_dvc_ends_with_0(
        self, source_ingested, monkeypatch
    ):
        workspace = source_ingested.workspace
        a_changed_source(source_ingested)
        new = version.copy_hashed(source_ingested.source / "cat" / "new.png", None)
        before, text = version.folder_md5(workspace.data), workspace.data_dvc.read_text()
        real = version.run_dvc

        def in_part(*arguments: object) -> subprocess.CompletedProcess[str]:
            done = real(*arguments)
            cache = workspace.root / ".dvc" / "cache" / "files" / "md5"
            (cache / new[:2] / new[2:]).unlink(missing_ok=True)
            words = "ERROR: failed to transfer - [Errno 28] No space left on device\n"
            return subprocess.CompletedProcess([], done.returncode, done.stdout, words)

        with monkeypatch.context() as patched:
            patched.setattr(version, "run_dvc", in_part)
            with pytest.raises(PipelineError, match="disk is full"):
                ingest(workspace, source_ingested.params)
        assert_as_it_was(source_ingested, before, text)

    @pytest.mark.slow
    def test_a_file_that_dvc_ignores_is_noticed_and_undone(self, source_empty):
        (source_empty.workspace.root / ".dvcignore").write_text("*03.png\n")
        with pytest.raises(PipelineError, match=r"\.dvcignore"):
            ingest(source_empty.workspace, source_empty.params)
        assert not source_empty.workspace.data.exists()
        assert not source_empty.workspace.data_dvc.exists()
        assert source_empty.leftovers() == []

    def test_a_locked_dvc_is_busy_and_nothing_moves(self, source_ingested):
        workspace = source_ingested.workspace
        a_changed_source(source_ingested)
        before, text = version.folder_md5(workspace.data), workspace.data_dvc.read_text()
        with (workspace.root / ".dvc" / "tmp" / "lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(Busy, match="try again"):
                ingest(workspace, source_ingested.params)
        assert_as_it_was(source_ingested, before, text)

    def test_a_stage_that_reads_the_data_is_waited_for(self, source_ingested):
        workspace = source_ingested.workspace
        a_changed_source(source_ingested)
        reader = {"pid": os.getpid(), "cmd": "dvc repro"}
        rwlock = workspace.root / ".dvc" / "tmp" / "rwlock"
        rwlock.write_text(json.dumps({"read": {str(workspace.data): [reader]}, "write": {}}))
        with pytest.raises(Busy, match="at work on data/"):
            ingest(workspace, source_ingested.params)
        assert source_ingested.leftovers() == []

    @pytest.mark.parametrize("half", ["", '{"read": {', "[]"])
    def test_what_a_killed_dvc_left_half_written_is_removed(self, source_ingested, half):
        workspace = source_ingested.workspace
        rwlock = workspace.root / ".dvc" / "tmp" / "rwlock"
        rwlock.write_text(half)
        assert self.commit(workspace) != 0, "DVC mends it itself by now"
        restore(workspace, source_ingested.params)
        assert not rwlock.exists()
        rwlock.write_text(half)
        a_changed_source(source_ingested)
        ingest(workspace, source_ingested.params)
        assert self.commit(workspace) == 0

    def commit(self, workspace: Workspace) -> int:
        """The exit code of a DVC command that takes notes."""
        command = [sys.executable, "-m", "dvc", "commit", "-f", "data.dvc"]
        return subprocess.run(command, cwd=workspace.root, check=False).returncode

    def test_notes_that_another_dvc_is_writing_are_left_to_it(self, source_ingested):
        folder = source_ingested.workspace.root / ".dvc" / "tmp"
        rwlock, noted = folder / "rwlock", json.dumps({"read": {}, "write": {}})
        rwlock.write_text("")
        with (folder / "rwlock.lock").open("a+") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            with ThreadPoolExecutor() as threads:
                mending = threads.submit(dvc_locks.mend, source_ingested.workspace.root)
                with pytest.raises(TimeoutError):
                    mending.result(timeout=0.2)
                rwlock.write_text(noted)
                fcntl.flock(guard, fcntl.LOCK_UN)
                mending.result(timeout=10)
        assert rwlock.read_text() == noted

    def test_outside_a_dvc_repository_it_says_so(self, source_empty):
        shutil.rmtree(source_empty.workspace.root / ".dvc")
        with pytest.raises(PipelineError, match="dvc init"):
            ingest(source_empty.workspace, source_empty.params)


class TestCommandLine:
    @pytest.mark.parametrize(
        ("make", "code", "message"),
        [
            ("empty", 3, "no images in class folders"),
            ("missing", 2, "there is no"),
            ("one class", 3, "at least two classes"),
        ],
    )
    def test_bad_input_ends_with_one_message(self, source_empty, tmp_path, make, code, message):
        folder = tmp_path / "given"
        if make != "missing":
            folder.mkdir()
        if make == "one class":
            write_image(folder / "cat" / "a.png", seed=0)
        done = source_empty.pipeline("ingest", str(folder))
        assert done.returncode == code, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert not source_empty.workspace.data.exists()
        assert source_empty.leftovers() == []

    def test_a_second_run_at_the_same_time_ends_with_75(self, source_empty):
        lock = source_empty.workspace.root / ".pipeline" / "lock"
        lock.parent.mkdir()
        with lock.open("a+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            done = source_empty.pipeline("ingest")
        assert done.returncode == 75
        assert "holds the workspace" in done.stderr

    @pytest.mark.slow
    def test_a_folder_of_ones_own_is_read_by_its_own_columns(self, source_empty, tmp_path):
        solar_cells = yaml.safe_load((PROJECT / "params.yaml").read_text())["ingest"]
        source_empty.configure(**solar_cells)
        for i in range(4):
            write_image(tmp_path / "own" / "ab"[i % 2] / f"{i}.png", seed=i)
        done = source_empty.pipeline("ingest", str(tmp_path / "own"))
        assert done.returncode == 0, done.stderr
        assert "read: class folders" in done.stderr
        assert re.search(r"a +2\n +b +2\n +all +4\n", done.stderr)
