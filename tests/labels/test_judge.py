"""The command: planted noise is found, and a person's corrections are never lost."""

from __future__ import annotations

import csv
import json
import logging
import re

import pyarrow as pa
import pytest

from pipeline.console import logger
from pipeline.data.ingestion.canonical import parse_metadata
from pipeline.data.ingestion.relabel import REMOVE, read_corrections
from pipeline.errors import ConfigurationError, DataRefused, PipelineError
from pipeline.labels.judge import judge_labels
from tests.labels.conftest import IMAGES


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_planted_noise_is_found(judged):
    table = rows(judged.folder / "labels.csv")
    flagged = {row["file_name"] for row in table if row["issue"] == "yes"}
    found = flagged & judged.wrong
    assert len(found) >= 0.8 * len(judged.wrong)
    assert len(found) >= 0.8 * len(flagged)
    truly = [row for row in table if row["file_name"] in found]
    assert all(row["suggested"] == judged.truth[row["file_name"]] for row in truly)
    told = json.loads((judged.folder / "summary.json").read_text(encoding="utf-8"))
    assert told["issues"] == len(flagged)
    assert told["estimated_noise"] == pytest.approx(len(judged.wrong) / IMAGES, abs=0.03)
    assert told["variant"] == "tiny"


def test_the_table_has_every_label_by_doubt(judged):
    table = rows(judged.folder / "labels.csv")
    assert list(table[0]) == [
        *("file_name", "label", "suggested", "quality", "p_given", "p_suggested", "issue", "rank")
    ]
    assert {row["file_name"] for row in table} == judged.truth.keys()
    assert [int(row["rank"]) for row in table] == list(range(1, IMAGES + 1))
    assert [row["issue"] for row in table] == sorted((row["issue"] for row in table), reverse=True)
    for issue in ("yes", "no"):
        probable = [float(row["p_given"]) for row in table if row["issue"] == issue]
        assert probable == sorted(probable)
    for row in table:
        other = "disc" if row["label"] == "bar" else "bar"
        assert float(row["p_given"]) <= float(row["p_suggested"])
        assert (row["suggested"] == other) == (float(row["p_given"]) < 0.5)
        assert float(row["quality"]) == pytest.approx(float(row["p_given"]), abs=2e-4)  # of two


def test_the_corrections_are_a_table_that_changes_nothing_until_it_is_filled_in(judged):
    table = rows(judged.folder / "corrections.csv")
    doubts = rows(judged.folder / "labels.csv")[: len(table)]
    assert len(table) == max(10, sum(row["issue"] == "yes" for row in doubts))
    assert [row["file_name"] for row in table] == [row["file_name"] for row in doubts]
    assert [row["given"] for row in table] == [row["label"] for row in doubts]
    assert not any(row["label"] for row in table)
    present = parse_metadata(judged.workspace.metadata.read_bytes())
    wanted = read_corrections(judged.folder / "corrections.csv", present, most_rows=1000)
    assert set(wanted.values()) == {""}


def fill(path, labels):
    """Fill in ``labels`` by file name as a spreadsheet may: semicolons, CRLF and a mark."""
    table = rows(path)
    listed = [row["file_name"] for row in table]
    table += [{"file_name": name} for name in labels if name not in listed]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys(), delimiter=";")
        writer.writeheader()
        writer.writerows(row | {"label": labels.get(row["file_name"], "")} for row in table)


def test_what_was_filled_in_is_kept_until_it_is_applied(judged, caplog):
    path = judged.folder / "corrections.csv"
    before = rows(path)
    first, second = before[0]["file_name"], before[1]["file_name"]
    sure = rows(judged.folder / "labels.csv")[-1]["file_name"]
    applied = before[2]
    fill(
        path,
        {
            first: "disc" if before[0]["given"] == "bar" else "bar",
            second: REMOVE,
            sure: "a new class",
            applied["file_name"]: applied["given"],
            "images/gone.png": "bar",
        },
    )
    with caplog.at_level(logging.INFO, logger=logger.name):
        judge_labels(judged.workspace, judged.params())
    assert "kept 3 corrections" in caplog.text
    after = {row["file_name"]: row["label"] for row in rows(path)}
    assert {name: label for name, label in after.items() if label} == {
        first: "disc" if before[0]["given"] == "bar" else "bar",
        second: REMOVE,
        sure: "a new class",
    }
    assert len(after) == len(before) + 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file_name,label\nimages/00001.png,bar,x\n", r"line 2.*repair the file, or move it"),
        (b"name,label\nimages/00001.png,bar\n", "expected the columns file_name and label"),
        (b"\x00\x01", "repair the file"),
    ],
)
def test_corrections_that_cannot_be_read_are_not_overwritten(
    planted, monkeypatch, content, message
):
    monkeypatch.setattr("pipeline.labels.crossfit.fit", None)  # it would fail
    path = planted.folder / "corrections.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(DataRefused, match=message):
        judge_labels(planted.workspace, planted.params())
    assert path.read_bytes() == content


def test_missing_packed_images_are_a_message(planted):
    (planted.workspace.packed / "packed.json").unlink()
    with pytest.raises(PipelineError, match="run 'dvc repro augment' first"):
        judge_labels(planted.workspace, planted.params())


def test_data_that_changed_since_it_was_packed_is_told(planted):
    metadata = planted.workspace.metadata
    text = metadata.read_text(encoding="utf-8")
    metadata.write_text(re.sub("(?<=00007.png,).*", "another", text), encoding="utf-8")
    with pytest.raises(PipelineError, match=r"1 image, such as images/00007\.png.*dvc repro"):
        judge_labels(planted.workspace, planted.params())


def test_a_scan_of_other_images_is_told(planted):
    from pipeline.data.manifest import read_table, write_table

    table = read_table(planted.workspace.accepted)
    hashes = pa.array(["0" * 64] * len(table))
    at = table.column_names.index("sha256")
    write_table(planted.workspace.accepted, table.set_column(at, "sha256", hashes))
    with pytest.raises(PipelineError, match=r"accepted\.parquet: is of other images"):
        judge_labels(planted.workspace, planted.params())
    write_table(planted.workspace.accepted, table.drop_columns("near_cluster"))
    with pytest.raises(PipelineError, match="or of an older version of the scan"):
        judge_labels(planted.workspace, planted.params())


def test_a_group_that_is_no_column_is_refused(planted):
    params = planted.params()
    grouped = params.model_copy(
        update={"split": params.split.model_copy(update={"group": "grupo"})}
    )
    with pytest.raises(ConfigurationError, match=r"no column 'grupo'.*did you mean 'group'"):
        judge_labels(planted.workspace, grouped)


def test_copies_are_judged_by_the_same_network(judged, monkeypatch):
    """Images 4 and 6 have the same pixels: who learns one of them is not asked for the other."""
    from pipeline.labels import judge

    seen = []

    def note(workspace, params, variant, packed, splits):
        del workspace, params, variant
        names = packed.index["file_name"].tolist()
        seen.extend(
            (split[names.index("images/00004.png")], split[names.index("images/00006.png")])
            for split in splits
        )
        raise KeyboardInterrupt

    monkeypatch.setattr(judge, "out_of_fold", note)
    for seed in range(8):
        with pytest.raises(KeyboardInterrupt):
            judge_labels(judged.workspace, judged.params(seed=seed))
    assert len(seen) == 24
    assert all(one == other for one, other in seen)
