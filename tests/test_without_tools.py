"""Augment, train and evaluate on a machine that has none of DVC, Prefect, MLflow and GE."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.project import SmallProject, make_small_project

pytestmark = pytest.mark.slow

# The folder mlflow/ of a project is then found in place of the library, as on such a machine.
NOT_INSTALLED = """
import sys
from importlib.machinery import PathFinder

TOOLS = {"dvc", "prefect", "mlflow", "great_expectations"}


class WithoutTools(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in TOOLS:
            path = [entry for entry in sys.path if "site-packages" not in entry]
        return PathFinder.find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTools
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallProject, dict[str, str]]:
    """A project whose data is split, and the environment in which the tools are missing."""
    project = make_small_project(tmp_path_factory.mktemp("bare") / "project")
    for command in ("ingest", "scan", "validate", "split"):
        project.pipeline(command)
    hiding = tmp_path_factory.mktemp("hiding")
    (hiding / "sitecustomize.py").write_text(NOT_INSTALLED, encoding="utf-8")
    path = os.pathsep.join([str(hiding), str(project.root / "src"), str(project.root)])
    return project, {"PYTHONPATH": path}


def test_the_tools_are_missing_there(bare):
    project, environment = bare
    for tool in ("dvc.repo", "prefect", "mlflow.tracking", "great_expectations"):
        done = project.run("python", "-c", f"import {tool}", check=False, **environment)
        assert "ModuleNotFoundError" in done.stderr, tool


def test_the_stages_of_a_gpu_machine_run_without_them(bare):
    project, environment = bare
    printed = ""
    for command in (["augment"], ["train", "first"], ["evaluate", "first"]):
        done = project.run("python", "-m", "pipeline", *command, **environment)
        printed += done.stdout + done.stderr
    artifacts = project.root / "artifacts"
    assert (artifacts / "models" / "first" / "weights.safetensors").is_file()
    assert (artifacts / "reports" / "first" / "report.html").is_file()
    measured = json.loads((artifacts / "evaluation" / "first" / "metrics.json").read_text())
    assert 0 <= measured["test"]["accuracy"]["value"] <= 1
    assert "MLflow" in printed
    assert "Traceback" not in printed
    assert not Path(project.root, "mlflow", "mlflow.db").exists()


def test_what_needs_a_missing_tool_says_so(bare):
    project, environment = bare
    for command, tool in ((["ingest"], "DVC"), (["rollback"], "MLflow")):
        done = project.run("python", "-m", "pipeline", *command, check=False, **environment)
        assert done.returncode == 1, done.stderr
        assert f"{tool} is not installed" in done.stderr
        assert "Traceback" not in done.stderr
