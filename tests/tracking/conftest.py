"""A workspace with a store that all tests here share: each uses a training key of its own."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from pipeline.tracking import Store, open_store
from pipeline.workspace import Workspace
from tests.mlflow_store import give_store

PROJECT = Path(__file__).parents[2]
_numbers = itertools.count()


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("a project") / "with spaces")
    workspace.root.mkdir()
    (workspace.root / "params.yaml").write_bytes((PROJECT / "params.yaml").read_bytes())
    give_store(workspace)
    return workspace


@pytest.fixture(scope="session")
def store(workspace: Workspace) -> Store:
    return open_store(workspace)


@pytest.fixture
def key() -> str:
    """A training key that no other test has."""
    return f"{next(_numbers):064x}"
