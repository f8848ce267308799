"""The documents name what is there."""

from __future__ import annotations

import re

import pytest

from tests.project import PROJECT

NAMED = sorted(
    set(
        re.findall(
            r"`([\w/]+\.py)(?::\s+(\w+))?",
            (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8"),
        )
    )
)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_walk_through_the_code_names_files_and_functions_that_exist(file, name):
    places = [PROJECT / "src" / "pipeline", PROJECT / "flows", PROJECT / "benchmarks"]
    found = [
        path
        for place in places
        for path in place.rglob(file.rpartition("/")[2])
        if path.as_posix().endswith(f"/{file}")
    ]
    assert found, file
    if name:
        pattern = rf"^\s*(def|class) {name}\b|^{name}\b"
        assert any(
            re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE) for path in found
        )


def test_the_files_that_contributing_names_exist():
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:src|tests|docs|benchmarks|flows)/[\w/.]*)`", text))
    assert len(named) > 10
    there = {path for path in named if "NAME" in path or (PROJECT / path).exists()}
    assert sorted(named - there) == []
