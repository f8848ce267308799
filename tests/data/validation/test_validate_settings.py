"""Validate: settings and files that cannot be used are refused before anything is judged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artifacts import write_json
from pipeline.data.manifest import write_table
from pipeline.data.validation.validate import validate
from pipeline.errors import ConfigurationError, DataRefused, PipelineError
from pipeline.workspace import Workspace
from tests.manifests import manifest_table
from tests.validation import PARAMS

LABELS = ["cat", "owl"] * 6


@pytest.fixture
def workspace(tmp_path) -> Callable[..., Workspace]:
    def make(labels=LABELS, **columns) -> Workspace:
        made = Workspace(tmp_path)
        write_table(made.manifest, manifest_table(labels, **columns))
        write_json(made.classes, {"classes": ["cat", "owl"]})
        return made

    return make


@pytest.mark.parametrize(
    ("changes", "group", "message"),
    [
        ({"formats": ("png",)}, None, "validation.formats: 'png' .* did you mean 'PNG'"),
        ({"modes": ("rgb",)}, None, "validation.modes: 'rgb' .* did you mean 'RGB'"),
        ({"severity": {"blurry": "off"}}, None, "'blurry' is no check; did you mean 'blurred'"),
        ({}, "modul", "split.group: data/metadata.csv has no column 'modul'"),
    ],
)
def test_settings_that_name_nothing_are_refused(workspace, changes, group, message):
    with pytest.raises(ConfigurationError, match=message):
        validate(workspace(module=["m"] * 12), PARAMS.model_copy(update=changes), group=group)


@pytest.mark.parametrize("text", ["{", "[]", '{"classes": [1]}', '{"classes": ["a", "a"]}'])
def test_a_broken_label_map_is_refused(workspace, text):
    here = workspace()
    here.classes.write_text(text, encoding="utf-8")
    with pytest.raises(DataRefused, match=r"classes\.json"):
        validate(here, PARAMS, group=None)


def test_missing_inputs_say_what_to_run(workspace):
    here = workspace()
    here.classes.unlink()
    with pytest.raises(PipelineError, match="data restore"):
        validate(here, PARAMS, group=None)
    here.manifest.unlink()
    with pytest.raises(PipelineError, match="dvc repro"):
        validate(here, PARAMS, group=None)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_the_suites_are_printed_as_they_are_committed(project):
    committed = project / "src/pipeline/data/validation/expectations.json"
    assert run(project, "params", "--expectations").stdout == committed.read_text(encoding="utf-8")


def test_an_unknown_check_in_the_settings_is_wrong_usage(workspace, params_text):
    here = workspace()
    changed = params_text.replace("severity: {}", "severity: {blured: off}")
    here.params.write_text(changed, encoding="utf-8")
    done = run(here.root, "params")
    assert done.returncode == 2
    assert "'blured' is no check; did you mean 'blurred'?" in done.stderr


def test_the_reference_is_emptied_by_command(workspace, params_text):
    here = workspace()
    here.params.write_text(params_text, encoding="utf-8")
    here.reference.write_text("what a mess", encoding="utf-8")
    assert run(here.root, "data", "accept-reference", "--forget").returncode == 0
    assert here.reference.read_text(encoding="utf-8") == "{}\n"
