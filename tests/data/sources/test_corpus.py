"""Every bad source has its verdict, and nothing outside the target is ever written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.sources import read_source
from pipeline.errors import DataRefused
from tests.corpus import archives, names, tables
from tests.corpus.case import Case
from tests.ingesting import asked

CASES = [*archives.CASES, *names.CASES, *tables.CASES]


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every path below ``folder``, with its mode and its bytes or target."""
    found = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        content = b""
        if path.is_symlink():
            content = str(path.readlink()).encode()
        elif path.is_file():
            content = path.read_bytes()
        found[str(path)] = (mode, content)
    return found


def outside(folder: Path, target: Path) -> dict[str, tuple[int, bytes]]:
    """The snapshot of ``folder`` but for ``target`` in it."""
    found = snapshot(folder).items()
    return {path: seen for path, seen in found if not Path(path).is_relative_to(target)}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_source_gets_its_verdict_and_touches_nothing_else(case: Case, tmp_path: Path):
    folder, work = tmp_path / "source", tmp_path / "work"
    folder.mkdir()
    address = case.make(folder)
    before = snapshot(tmp_path)
    try:
        listing = read_source(asked(address, work=work))
    except DataRefused as refused:
        assert case.refused is not None, refused
        assert case.refused in str(refused)
        assert str(work) not in str(refused), "the user knows nothing of the scratch folder"
        assert snapshot(work) == {}
        assert outside(tmp_path, work) == before
        return
    assert case.refused is None, listing
    assert sorted(listing.columns["file_name"]) == sorted(case.kept)
    left_out = listing.skipped + listing.refused
    for reason in case.reasons:
        assert any(reason in why for why in left_out), left_out
    assert bool(left_out) == bool(case.reasons)
    for name, values in (case.columns or {}).items():
        assert listing.columns[name] == values
    assert outside(tmp_path, work) == before


def test_the_corpus_is_large_and_its_names_are_unique():
    assert len({case.name for case in CASES}) == len(CASES) >= 110
