"""`dvc.yaml` against the code: DVC does not follow Python imports, so its lists must."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import grimp
import pytest
import yaml

PROJECT = Path(__file__).parent.parent

ENTRIES = {
    "scan": ["pipeline.data.scanning.scan"],
    "validate": ["pipeline.data.validation.validate"],
    "split": ["pipeline.data.split"],
    "augment": ["pipeline.data.pack", "pipeline.vision.preview"],
    "train": ["pipeline.training.train"],
    "evaluate": ["pipeline.evaluation.evaluate"],
    "compare": ["pipeline.evaluation.compare"],
    "index": ["pipeline.evaluation.explain.index"],
}
"""The modules each stage's command runs."""

PLUMBING = (
    *("artifacts", "console", "errors", "journal", "machine", "params", "tracking", "workspace"),
)
"""What changes how a stage reads, writes and reports, never what it computes."""


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("pipeline", cache_dir=None)


def code_of(stage: str) -> set[str]:
    """The files whose code shapes the outputs of ``stage``."""
    modules = set(ENTRIES[stage])
    for entry in ENTRIES[stage]:
        modules |= graph().find_upstream_modules(entry)
    files = set()
    for module in modules:
        parts = module.split(".")
        path = Path("src", *parts)
        file = path / "__init__.py" if (PROJECT / path).is_dir() else path.with_suffix(".py")
        if (
            len(parts) > 1
            and parts[1] not in PLUMBING
            and "import " in (PROJECT / file).read_text()
        ):
            files.add(str(file))
    return files


def dependencies_of(stage: str) -> set[str]:
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    listed = stages[stage].get("do", stages[stage])["deps"]
    return {dependency for dependency in listed if dependency.startswith("src/")}


@pytest.mark.parametrize("stage", ENTRIES)
def test_a_stage_depends_on_all_the_code_it_runs(stage):
    listed = dependencies_of(stage)
    missing = {
        file
        for file in code_of(stage)
        if not any(file == name or file.startswith(f"{name}/") for name in listed)
    }
    assert not missing


@pytest.mark.parametrize("stage", ENTRIES)
def test_a_stage_depends_on_no_code_it_does_not_run(stage):
    code = code_of(stage)
    code |= {str(Path(file).with_suffix(".html")) for file in code}  # a page's template
    code |= {str(Path(file).parent / "templates") for file in code}
    unused = {
        name
        for name in dependencies_of(stage)
        if not any(file == name or file.startswith(f"{name}/") for file in code)
    }
    assert not unused


def test_every_stage_is_checked():
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert set(ENTRIES) == set(stages)
