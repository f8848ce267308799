"""A device without space left: one message, exit code 1, and what was there stays as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.ingestion import version
from pipeline.workspace import Workspace
from tests.ingesting import SourceProject, copied

pytestmark = pytest.mark.chaos

SIZE = 4 << 20


@pytest.fixture
def small_device(tmp_path: Path) -> Iterator[Path]:
    """A file system of `SIZE` bytes."""
    folder = tmp_path / "device"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a file system here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def project(_source_ingested: SourceProject, small_device: Path, tmp_path: Path) -> SourceProject:
    """A project on the device, with its version ingested; its source lies elsewhere."""
    made = copied(_source_ingested, small_device / "base")
    shutil.move(made.source, tmp_path / "source")
    made = SourceProject(made.workspace, tmp_path / "source")
    made.configure(source=str(made.source))
    return made


def larger_source(project: SourceProject, count: int) -> int:
    """Put ``count`` images of 90 kB into the source; returns their bytes together."""
    rng = np.random.default_rng(0)
    total = 0
    for i in range(count):
        path = project.source / "cat" / f"large{i:03}.png"
        Image.fromarray(rng.integers(0, 256, (300, 300), dtype=np.uint8)).save(path)
        total += path.stat().st_size
    return total


def free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def fill(workspace: Workspace, *, leave: int) -> None:
    """Use up the device but for ``leave`` bytes."""
    with (workspace.root.parent / "filler").open("wb") as file:
        file.write(bytes(free(workspace.root) - leave))


def assert_refused(project: SourceProject, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("the disk is full") == 1, done.stderr
    assert "free some space" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("fails", ["while copying", "in DVC"])
def test_ingest_leaves_the_version_that_was_there(project, fails, add):
    before = version.folder_md5(project.workspace.data), project.workspace.data_dvc.read_bytes()
    size = larger_source(project, 12)
    fill(project.workspace, leave=size // 2 if fails == "while copying" else size + (200 << 10))
    done = project.pipeline("ingest", *(["--add"] if add else []))
    assert_refused(project, done)
    assert ("storing" in done.stderr) == (fails == "in DVC")
    assert before == (
        version.folder_md5(project.workspace.data),
        project.workspace.data_dvc.read_bytes(),
    )
    assert project.leftovers() == []
    # With space again, the same command does it.
    (project.workspace.root.parent / "filler").unlink()
    done = project.pipeline("ingest", *(["--add"] if add else []))
    assert done.returncode == 0, done.stderr
    assert version.recorded(project.workspace) == version.folder_md5(project.workspace.data)


@pytest.mark.parametrize("cached", [False, True])
def test_restore_leaves_nothing_half_built(project, cached):
    size = larger_source(project, 12)
    assert project.pipeline("ingest").returncode == 0
    recorded = project.workspace.data_dvc.read_bytes()
    shutil.rmtree(project.workspace.data)
    if not cached:
        shutil.rmtree(project.workspace.root / ".dvc" / "cache")
    fill(project.workspace, leave=size // 2)
    assert_refused(project, project.pipeline("data", "restore"))
    assert not project.workspace.data.exists()
    assert project.workspace.data_dvc.read_bytes() == recorded
    assert project.leftovers() == []


@pytest.mark.parametrize("leave", [0, 4 << 10])
def test_a_stage_leaves_the_outputs_that_were_there(project, leave):
    workspace = project.workspace
    assert project.pipeline("scan").returncode == 0
    before = workspace.manifest.read_bytes()
    fill(workspace, leave=leave)
    assert_refused(project, project.pipeline("scan"))
    assert workspace.manifest.read_bytes() == before
    assert [path.name for path in workspace.artifacts.iterdir()] == [workspace.manifest.name]
