"""The corpus of bad and odd images: one scan over all, and each has its verdict."""

from __future__ import annotations

import csv

import pandas as pd
import pytest

from pipeline.data.manifest import read_table
from pipeline.data.scanning.scan import scan
from pipeline.params import ScanParams
from pipeline.workspace import Workspace
from tests.corpus.images import CASES, MAX_BYTES, MAX_PIXELS

PARAMS = ScanParams(max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES, timeout=60, memory=2_000)
DECODED = ("format", "mode", "bits", "alpha", "width", "frames", "brightness", "phash")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    workspace = Workspace(tmp_path_factory.mktemp("corpus"))
    images = workspace.data / "images"
    images.mkdir(parents=True)
    for case in CASES:
        case.make(images)
    with workspace.metadata.open("w", encoding="utf-8", newline="") as file:
        listed = [[f"images/{case.name}", "cat"] for case in CASES]
        csv.writer(file).writerows([["file_name", "label"], *listed])
    before = sorted(images.iterdir())
    scan(workspace, PARAMS)
    assert sorted(images.iterdir()) == before
    return {row["file_name"]: row for row in read_table(workspace.manifest).to_pylist()}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_case_has_its_verdict(rows, case):
    row = rows[f"images/{case.name}"]
    assert row["status"] == case.status, row["error"]
    assert {name: row[name] for name in case.columns} == dict(case.columns)
    assert case.error in (row["error"] or "")
    assert (row["error"] is None) == (case.status == "ok")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_measured_is_measured_whole(rows, case):
    """All columns that come from decoding, or none: no check meets half a row."""
    row = rows[f"images/{case.name}"]
    assert {pd.isna(row[name]) for name in DECODED} == {case.status != "ok"}
    assert (row["duplicate_cluster"] >= 0) == (row["near_cluster"] >= 0) == (case.status == "ok")


def test_reasons_tell_people_what_is_wrong(rows):
    for row in rows.values():
        if row["error"]:
            assert row["error"].isprintable()
            assert "0x" not in row["error"]  # an address in memory differs from run to run
            assert "/" not in row["error"]


def test_the_corpus_is_large_and_names_each_case_once():
    names = [case.name.lower() for case in CASES]
    assert len(set(names)) == len(names) >= 60
