"""A version comes in whole: killed at any moment, an ingest leaves the old version or the new."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import pytest

from pipeline.data import swap, version
from pipeline.data.ingest import ingest, read_dataset, write_dataset
from pipeline.errors import Busy
from tests.ingesting import PROJECT, SourceProject, a_changed_source

DIE = "lambda *a, **k: os.kill(os.getpid(), 9)"
MOMENTS = {
    "while copying": "copies = iter(range(99)); real = version.copy_hashed;"
    "version.copy_hashed = lambda s, t: os.kill(os.getpid(), 9) if t and next(copies) > 4"
    " else real(s, t)",
    "before the intent": f"swap.write_json = {DIE}",
    "before the swap": f"swap._bring_in = {DIE}",
    "after the swap": f"version.record = {DIE}",
    "after DVC": f"real = version.record; version.record = lambda *a: (real(*a), ({DIE})())",
    "after the intent": f"shutil.rmtree = {DIE}",
}
RENAMES = {
    f"before rename {n} of 3": "swap._exchange = lambda *a: False;"
    "real, n = Path.rename, iter('123');"
    f"Path.rename = lambda *a: os.kill(os.getpid(), 9) if next(n) == '{n}' else real(*a)"
    for n in (1, 2, 3)
}


def killed_ingest(project: SourceProject, patch: str) -> None:
    code = (
        "import os, shutil\nfrom pathlib import Path\n"
        "from pipeline.data import swap, version\nfrom pipeline.data.ingest import ingest\n"
        "from pipeline.params import load\nfrom pipeline.workspace import Workspace\n"
        f"workspace = Workspace.here()\nparams = load(workspace.params).ingest\n{patch}\n"
        "ingest(workspace, params)"
    )
    done = project.run("-c", code)
    assert done.returncode == -9, done.stderr


def recover_when_dvc_ended(project: SourceProject) -> None:
    """A killed ingest may leave its DVC command running for a moment."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return swap.recover(project.workspace)
        except Busy:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def assert_one_version(project: SourceProject, *versions: str | None) -> None:
    workspace = project.workspace
    present = version.folder_md5(workspace.data) if workspace.data.exists() else None
    assert present in versions
    assert version.recorded(workspace) == present
    assert project.leftovers() == []


@pytest.mark.slow
class TestKill:
    @pytest.fixture
    def versions(self, source_ingested) -> tuple[SourceProject, str, str]:
        """The project, the hash of the version there and that of the version to come."""
        old = version.folder_md5(source_ingested.workspace.data)
        a_changed_source(source_ingested)
        written = source_ingested.source.parent / "written"
        written.mkdir()
        data = read_dataset(source_ingested.workspace, source_ingested.params, None)
        return source_ingested, old, version.digest(write_dataset(data, written))

    @pytest.mark.parametrize("moment", [*MOMENTS, *RENAMES])
    def test_at_any_moment_leaves_one_whole_version(self, versions, moment):
        project, old, new = versions
        killed_ingest(project, (MOMENTS | RENAMES)[moment])
        if moment in MOMENTS:  # with an exchange in one step, data/ is never absent
            assert version.folder_md5(project.workspace.data) in {old, new}
        recover_when_dvc_ended(project)
        assert_one_version(project, old, new)
        ingest(project.workspace, project.params)
        assert_one_version(project, new)

    @pytest.mark.parametrize("moment", ["before the swap", "after the swap"])
    def test_of_the_first_ingest_leaves_all_or_nothing(self, source_empty, moment):
        killed_ingest(source_empty, MOMENTS[moment])
        recover_when_dvc_ended(source_empty)
        workspace = source_empty.workspace
        if moment == "before the swap":
            assert not workspace.data.exists()
            assert not workspace.data_dvc.exists()
        else:
            assert version.recorded(workspace) == version.folder_md5(workspace.data)
        assert source_empty.leftovers() == []

    @pytest.mark.chaos
    def test_at_random_moments_leaves_one_whole_version(self, versions):
        project, old, new = versions
        rng = random.Random(0)
        for _ in range(5):
            started = subprocess.Popen(
                [sys.executable, "-m", "pipeline", "ingest"],
                cwd=project.workspace.root,
                env=os.environ | {"PYTHONPATH": str(PROJECT / "src")},
                stderr=subprocess.DEVNULL,
            )
            time.sleep(rng.uniform(0.5, 4.0))
            started.kill()
            started.wait()
            assert version.folder_md5(project.workspace.data) in {old, new}
            recover_when_dvc_ended(project)
            assert_one_version(project, old, new)

    def test_what_is_neither_version_is_kept_beside(self, versions):
        project, old, _ = versions
        killed_ingest(project, MOMENTS["after the swap"])
        (project.workspace.data / "notes.txt").write_text("of some hours' work")
        swap.recover(project.workspace)
        assert version.folder_md5(project.workspace.data) == old
        (kept,) = project.workspace.root.glob("data.unfinished-*/data/notes.txt")
        assert kept.read_text() == "of some hours' work"
