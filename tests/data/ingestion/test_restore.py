"""Restore: ``data/`` becomes what ``data.dvc`` says, or the user is told why not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.data.ingestion import swap, version
from pipeline.data.ingestion.restore import accept, restore
from pipeline.errors import Busy, DataRefused, PipelineError
from pipeline.workspace import Workspace
from tests.ingesting import SourceProject, write_image


@pytest.fixture
def absent(source_ingested) -> SourceProject:
    """A fresh clone: ``data.dvc`` is there, ``data/`` is not."""
    shutil.rmtree(source_ingested.workspace.data)
    return source_ingested


def forget_cache(project: SourceProject) -> Path:
    """Move DVC's cache away; returns where it is now."""
    return (project.workspace.root / ".dvc" / "cache").rename(project.source.parent / "cache")


def assert_restored(project: SourceProject, data_dvc: bytes) -> None:
    workspace = project.workspace
    assert workspace.data_dvc.read_bytes() == data_dvc
    assert version.folder_md5(workspace.data) == version.recorded(workspace)
    assert project.leftovers() == []


def edit_a_label(project: SourceProject) -> str:
    text = project.workspace.metadata.read_text().replace("01.png,cat", "01.png,dog")
    project.workspace.metadata.write_text(text)
    return text


def test_the_recorded_version_is_left_alone(source_ingested, caplog):
    before = source_ingested.workspace.data_dvc.read_bytes()
    with caplog.at_level("INFO", "pipeline"):
        restore(source_ingested.workspace, source_ingested.params)
    assert "data/ is the version in data.dvc" in caplog.text
    assert_restored(source_ingested, before)


def test_absent_data_comes_from_the_cache_without_its_source(absent):
    before = absent.workspace.data_dvc.read_bytes()
    shutil.rmtree(absent.source)
    restore(absent.workspace, absent.params)
    assert_restored(absent, before)


@pytest.mark.slow
def test_absent_data_comes_from_a_remote_without_its_source(source_ingested, tmp_path):
    project = source_ingested
    before = project.workspace.data_dvc.read_bytes()
    assert (
        project.dvc("remote", "add", "--default", "here", str(tmp_path / "remote")).returncode == 0
    )
    assert project.dvc("push").returncode == 0
    shutil.rmtree(project.workspace.data)
    shutil.rmtree(project.workspace.root / ".dvc" / "cache")
    shutil.rmtree(project.source)
    restore(project.workspace, project.params)
    assert_restored(project, before)


@pytest.mark.slow
def test_absent_data_is_built_from_its_source_and_data_dvc_keeps_its_bytes(absent):
    forget_cache(absent)
    path = absent.workspace.data_dvc
    path.write_text(f"# the first version\n{path.read_text()}")
    before = path.read_bytes()
    restore(absent.workspace, absent.params)
    assert_restored(absent, before)
    assert absent.dvc("status", "data.dvc", "--json").stdout.strip() == "{}"


def test_a_source_that_gives_another_version_is_refused_with_both_hashes(absent):
    forget_cache(absent)
    before = absent.workspace.data_dvc.read_bytes()
    write_image(absent.source / "cat" / "new.png", seed=100)
    with pytest.raises(DataRefused) as refused:
        restore(absent.workspace, absent.params)
    message = str(refused.value)
    assert version.recorded(absent.workspace) in message
    assert message.count(".dir") == 2
    assert "python -m pipeline ingest" in message
    assert absent.workspace.data_dvc.read_bytes() == before
    assert not absent.workspace.data.exists()
    assert absent.leftovers() == []


@pytest.mark.slow
def test_a_source_that_is_gone_is_named_with_what_else_was_tried(absent):
    forget_cache(absent)
    shutil.rmtree(absent.source)
    with pytest.raises(PipelineError, match="neither DVC's cache nor a remote") as refused:
        restore(absent.workspace, absent.params)
    assert refused.value.exit_code == 2
    assert str(absent.source) in str(refused.value)


@pytest.mark.slow
def test_without_data_dvc_the_source_is_ingested(source_empty):
    restore(source_empty.workspace, source_empty.params)
    assert_restored(source_empty, source_empty.workspace.data_dvc.read_bytes())


def test_data_without_data_dvc_is_not_overwritten(source_ingested):
    source_ingested.workspace.data_dvc.unlink()
    with pytest.raises(DataRefused, match="data accept"):
        restore(source_ingested.workspace, source_ingested.params)
    assert source_ingested.workspace.metadata.is_file()


def test_other_data_is_refused_with_both_ways_out(source_ingested):
    text = edit_a_label(source_ingested)
    done = source_ingested.pipeline("data", "restore")
    assert done.returncode == 3
    assert "python -m pipeline data accept" in done.stderr
    assert "dvc checkout data.dvc --force" in done.stderr
    assert "Traceback" not in done.stderr
    assert source_ingested.workspace.metadata.read_text() == text


@pytest.mark.slow
def test_the_first_way_out_accepts_the_edit_as_a_version(source_ingested, caplog):
    text = edit_a_label(source_ingested)
    before = version.recorded(source_ingested.workspace)
    accept(source_ingested.workspace)
    after = version.recorded(source_ingested.workspace)
    assert after == version.folder_md5(source_ingested.workspace.data) != before
    restore(source_ingested.workspace, source_ingested.params)
    assert source_ingested.workspace.metadata.read_text() == text
    with caplog.at_level("INFO", "pipeline"):
        accept(source_ingested.workspace)
    assert "nothing changed" in caplog.text


@pytest.mark.slow
def test_the_second_way_out_brings_the_recorded_version_back(source_ingested):
    edit_a_label(source_ingested)
    before = source_ingested.workspace.data_dvc.read_bytes()
    assert source_ingested.dvc(*version.BRING_BACK.split()[1:]).returncode == 0
    restore(source_ingested.workspace, source_ingested.params)
    assert_restored(source_ingested, before)


@pytest.mark.parametrize("missing", ["metadata.csv", "classes.json", "data"])
def test_what_is_not_in_the_layout_is_not_accepted(source_ingested, missing):
    data, before = source_ingested.workspace.data, source_ingested.workspace.data_dvc.read_bytes()
    if missing == "data":
        shutil.rmtree(data)
    else:
        (data / missing).unlink()
    with pytest.raises(PipelineError, match=r"metadata\.csv|classes\.json"):
        accept(source_ingested.workspace)
    assert source_ingested.workspace.data_dvc.read_bytes() == before


@pytest.mark.slow
def test_a_lost_cache_is_filled_from_data_that_is_as_recorded(source_ingested):
    before = source_ingested.workspace.data_dvc.read_bytes()
    forget_cache(source_ingested)
    restore(source_ingested.workspace, source_ingested.params)
    assert_restored(source_ingested, before)
    assert source_ingested.dvc("status", "data.dvc", "--json").stdout.strip() == "{}"


@pytest.mark.slow
def test_a_lost_cache_does_not_make_an_edit_the_recorded_version(source_ingested):
    forget_cache(source_ingested)
    edit_a_label(source_ingested)
    with pytest.raises(DataRefused, match=r"not the version in data\.dvc"):
        restore(source_ingested.workspace, source_ingested.params)


@pytest.mark.slow
def test_a_damaged_cache_is_noticed_and_leaves_nothing(absent):
    cached = next(
        path
        for path in (absent.workspace.root / ".dvc" / "cache").rglob("*")
        if path.is_file() and path.read_bytes().startswith(b"\x89PNG")
    )
    cached.chmod(0o644)
    cached.write_bytes(b"damaged")
    cached.chmod(0o444)
    with pytest.raises(PipelineError, match="files in its cache are damaged"):
        restore(absent.workspace, absent.params)
    assert not absent.workspace.data.exists()
    assert absent.leftovers() == []


@pytest.mark.slow
def test_a_cache_that_lacks_one_file_is_no_half_restored_version(absent):
    before = absent.workspace.data_dvc.read_bytes()
    cached = absent.workspace.root / ".dvc" / "cache" / "files"
    next(path for path in cached.rglob("*") if path.is_file() and path.suffix != ".dir").unlink()
    restore(absent.workspace, absent.params)
    assert_restored(absent, before)


def test_a_kill_while_dvc_fills_the_folder_leaves_no_part_of_it(absent, monkeypatch):
    def cut_short(workspace: Workspace, *_: str) -> None:
        write_image(workspace.data / "images" / "cat" / "01.png", seed=1)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(version, "run_dvc", cut_short)
        patched.setattr(swap, "_undo", lambda *_: None)  # as if there were no time left
        with pytest.raises(KeyboardInterrupt):
            restore(absent.workspace, absent.params)
    assert absent.workspace.data.exists()
    swap.recover(absent.workspace)
    assert not absent.workspace.data.exists()
    assert absent.leftovers() == []


def test_a_busy_dvc_is_said_to_be_busy(absent, monkeypatch):
    def busy(*_: object) -> None:
        raise Busy("another DVC command is running; try again")

    with monkeypatch.context() as patched:
        patched.setattr(version, "run_dvc", busy)
        with pytest.raises(Busy):
            restore(absent.workspace, absent.params)
    assert absent.leftovers() == []
    assert not absent.workspace.data.exists()


@pytest.mark.slow
def test_links_instead_of_copies_in_the_workspace_are_the_same_version(absent):
    before = absent.workspace.data_dvc.read_bytes()
    assert absent.dvc("config", "cache.type", "symlink").returncode == 0
    restore(absent.workspace, absent.params)
    assert (absent.workspace.data / "metadata.csv").is_symlink()
    assert_restored(absent, before)
    restore(absent.workspace, absent.params)
