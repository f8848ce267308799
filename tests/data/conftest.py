"""Fixtures of the tests of data."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.data.ingestion.ingest import ingest
from pipeline.workspace import Workspace
from tests.ingesting import PROJECT, SourceProject, copied, write_image


@pytest.fixture(scope="session")
def _source_empty(tmp_path_factory: pytest.TempPathFactory) -> SourceProject:
    base = tmp_path_factory.mktemp("source-empty")
    project = SourceProject(Workspace(base / "project"), base / "source")
    for i in range(12):
        write_image(project.source / ("cat" if i % 2 else "dog") / f"{i:02}.png", seed=i)
    project.workspace.root.mkdir()
    shutil.copy(PROJECT / "params.yaml", project.workspace.params)
    project.configure(source=str(project.source), table=None, label=None, weight=None)
    (project.workspace.root / ".gitignore").write_text("/data\n/.pipeline/\n", encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=project.workspace.root, check=True)
    assert project.dvc("init", "-q").returncode == 0
    return project


@pytest.fixture(scope="session")
def _source_ingested(
    _source_empty: SourceProject, tmp_path_factory: pytest.TempPathFactory
) -> SourceProject:
    project = copied(_source_empty, tmp_path_factory.mktemp("source-ingested") / "base")
    ingest(project.workspace, project.params)
    return project


@pytest.fixture
def source_empty(_source_empty: SourceProject, tmp_path: Path) -> SourceProject:
    """A project without ``data/`` and ``data.dvc``."""
    return copied(_source_empty, tmp_path / "base")


@pytest.fixture
def source_ingested(_source_ingested: SourceProject, tmp_path: Path) -> SourceProject:
    """A project whose source is ingested: ``data/``, ``data.dvc`` and DVC's cache are there."""
    return copied(_source_ingested, tmp_path / "base")
