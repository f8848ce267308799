"""A version comes in whole: killed at any moment, an ingest leaves the old version or the new."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import pytest

from pipeline.data.ingestion import swap, version
from pipeline.data.ingestion.ingest import ingest, relabel
from pipeline.errors import Busy
from tests.ingesting import (
    PROJECT,
    SourceProject,
    a_batch,
    a_changed_source,
    a_table_of_corrections,
)

DIE = "lambda *a, **k: os.kill(os.getpid(), 9)"
MOMENTS = {
    "while copying": "copies = iter(range(99)); real = Staging.take;"
    "Staging.take = lambda *a: os.kill(os.getpid(), 9) if next(copies) > 1 else real(*a)",
    "before the intent": f"swap.write_json = {DIE}",
    "before the swap": f"swap.bring_in = {DIE}",
    "after the swap": f"version.record = {DIE}",
    "after DVC": "real = version.record;"
    f"version.record = lambda *a, **k: (real(*a, **k), ({DIE})())",
    "before the old version goes": f"swap._clear = {DIE}",
    "while the old version goes": f"shutil.rmtree = {DIE}",
}
RENAMES = {
    f"before rename {n} of 3": "artifacts._exchange = lambda *a: False;"
    "real, n = Path.rename, iter('123');"
    f"Path.rename = lambda *a: os.kill(os.getpid(), 9) if next(n) == '{n}' else real(*a)"
    for n in (1, 2, 3)
}


KINDS = {
    "replace": "ingest(workspace, params)",
    "add": "ingest(workspace, params, '../batch', add=True)",
    "relabel": "relabel(workspace, params, Path('../corrections.csv'))",
}


def killed_ingest(project: SourceProject, patch: str, kind: str = "replace") -> None:
    code = (
        "import os, shutil\nfrom pathlib import Path\n"
        "from pipeline import artifacts\nfrom pipeline.data.ingestion import swap, version\n"
        "from pipeline.data.ingestion.ingest import ingest, relabel\n"
        "from pipeline.data.ingestion.staging import Staging\n"
        "from pipeline.params import load\nfrom pipeline.workspace import Workspace\n"
        f"workspace = Workspace.here()\nparams = load(workspace.params).ingest\n{patch}\n"
        f"{KINDS[kind]}"
    )
    done = project.run("-c", code)
    assert done.returncode == -9, done.stderr


def carry_out(project: SourceProject, kind: str) -> None:
    if kind == "relabel":
        relabel(project.workspace, project.params, a_table_of_corrections(project))
    elif kind == "add":
        ingest(project.workspace, project.params, str(a_batch(project)), add=True)
    else:
        ingest(project.workspace, project.params)


def version_to_come(project: SourceProject, kind: str) -> str:
    """The hash of what `carry_out` would make of ``data/``, which stays as it is."""
    staged: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(swap, "install", lambda *_, new, **__: staged.append(new))
        carry_out(project, kind)
    return staged[0]


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
        return source_ingested, old, version_to_come(source_ingested, "replace")

    def leaves_one_whole_version(self, project: SourceProject, kind: str, moment: str) -> None:
        old = version.folder_md5(project.workspace.data)
        new = version_to_come(project, kind)
        killed_ingest(project, (MOMENTS | RENAMES)[moment], kind)
        if moment in MOMENTS:  # with an exchange in one step, data/ is never absent
            assert version.folder_md5(project.workspace.data) in {old, new}
        recover_when_dvc_ended(project)
        assert_one_version(project, old, new)
        if version.recorded(project.workspace) == old:
            carry_out(project, kind)
        assert_one_version(project, new)

    @pytest.mark.parametrize("moment", [*MOMENTS, *RENAMES])
    def test_at_any_moment_leaves_one_whole_version(self, source_ingested, moment):
        a_changed_source(source_ingested)
        self.leaves_one_whole_version(source_ingested, "replace", moment)

    def test_with_the_old_version_as_links_in_the_new_one_leaves_either(self, source_ingested):
        self.leaves_one_whole_version(source_ingested, "add", "after the swap")

    @pytest.mark.chaos
    @pytest.mark.parametrize("moment", [*MOMENTS, *RENAMES])
    @pytest.mark.parametrize("kind", ["add", "relabel"])
    def test_of_an_added_batch_or_of_corrections_too(self, source_ingested, kind, moment):
        if kind == "relabel" and moment == "while copying":
            pytest.skip("corrections copy no image")
        self.leaves_one_whole_version(source_ingested, kind, moment)

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
    @pytest.mark.parametrize("kind", KINDS)
    def test_at_random_moments_leaves_one_whole_version(self, source_ingested, kind):
        project = source_ingested
        a_changed_source(project)
        old = version.folder_md5(project.workspace.data)
        new = version_to_come(project, kind)
        arguments = {"replace": [], "add": ["--add", "../batch"]}.get(kind)
        arguments = ["--relabel", "../corrections.csv"] if arguments is None else arguments
        rng = random.Random(kind)
        for _ in range(5):
            started = subprocess.Popen(
                [sys.executable, "-m", "pipeline", "ingest", *arguments],
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
