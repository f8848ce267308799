"""What must hold of the repository itself."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parent.parent


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [PROJECT / name for name in listed.stdout.splitlines() if (PROJECT / name).is_file()]


def test_the_folder_mlflow_does_not_shadow_the_library():
    import mlflow

    assert not (PROJECT / "mlflow" / "__init__.py").exists()
    assert mlflow.__file__ is not None
    assert not Path(mlflow.__file__).is_relative_to(PROJECT / "mlflow")


def test_the_lock_file_pins_every_dependency_and_names_no_host():
    lines = (PROJECT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 100
    for line in lines:
        assert re.match(r"^[a-z0-9][a-z0-9._-]*(\[[a-z0-9,-]+\])?==[^ ]+( ; .+)?$", line), line


@pytest.mark.parametrize(
    "path",
    [
        *("flows", "src/pipeline", "mlflow", "tests", "data.dvc", "dvc.yaml", "params.yaml"),
        *("README.md", "pyproject.toml", "requirements.lock", "Makefile", ".ci/run", ".dvcignore"),
        *(".editorconfig", ".pre-commit-config.yaml", "LICENSE", "CONTRIBUTING.md", "CHANGELOG.md"),
    ],
)
def test_the_top_level_is_complete(path):
    assert (PROJECT / path).exists()


def test_no_data_weights_or_large_files_are_in_git():
    for path in tracked_files():
        assert path.suffix not in {".safetensors", ".pt", ".npy", ".parquet", ".db", ".gz"}, path
        assert path.stat().st_size < 1_000_000, path


def test_stages_of_variants_follow_params_yaml():
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert stages["train"]["foreach"] == stages["evaluate"]["foreach"] == "${variants}"


def test_every_dependency_of_a_stage_exists_or_is_made_by_a_stage():
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for stage in stages.values():
        for dependency in stage.get("do", stage)["deps"]:
            if dependency.startswith("src/"):
                assert (PROJECT / dependency).exists(), dependency


def test_the_tables_of_the_readme_come_from_the_results():
    from benchmarks import published_page
    from benchmarks.readme import ALL, README, all_results, render

    text = README.read_text(encoding="utf-8")
    assert "<!-- table: main-run -->" in text
    assert render(text) == text, "run 'make readme'"
    assert all_results() == ALL.read_text(encoding="utf-8"), "run 'make readme'"
    page = published_page.PAGE.read_text(encoding="utf-8")
    assert published_page.render() == page, "run 'make readme'"


def test_the_import_contracts_hold():
    done = subprocess.run(
        ["lint-imports", "--no-cache"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
