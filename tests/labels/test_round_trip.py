"""From doubts to a new version of the data, by the commands that a person runs."""

from __future__ import annotations

import csv
import re
import shlex
import shutil

import pytest

from pipeline.data.ingestion import version
from pipeline.data.ingestion.canonical import parse_metadata
from pipeline.data.ingestion.ingest import ingest
from pipeline.data.pack import pack
from pipeline.data.scanning.scan import scan
from pipeline.data.split import split
from pipeline.errors import PipelineError
from pipeline.labels.judge import judge_labels
from pipeline.params import load
from pipeline.workspace import Workspace
from tests.labels.conftest import TINY
from tests.project import make_small_project

WRONG = ("disc/003.png", "disc/017.png", "disc/031.png", "bar/008.png", "bar/022.png")


@pytest.mark.slow
def test_doubts_become_a_version_without_the_planted_noise(tmp_path):
    project = make_small_project(tmp_path / "project")
    source = tmp_path / "project-source"
    truth = {}
    for name in WRONG:
        kind, file = name.split("/")
        wrong = source / ("bar" if kind == "disc" else "disc") / f"mistaken-{file}"
        shutil.move(source / name, wrong)
        truth[f"images/{wrong.relative_to(source).as_posix()}"] = kind
    project.edit_params(variants={"tiny": TINY | {"image_size": 32}}, labels__folds=3)
    workspace, params = Workspace(project.root), load(project.root / "params.yaml")
    ingest(workspace, params.ingest)
    scan(workspace, params.scan)
    shutil.copy(workspace.manifest, workspace.accepted)
    split(workspace, params.split)
    pack(workspace, params.augment)
    before = parse_metadata(workspace.metadata.read_bytes())
    assert truth.keys() <= set(before["file_name"])

    told = project.pipeline("labels").stderr
    assert re.search(r"\d+ of 120 labels doubtful", told)
    corrections = workspace.labels("tiny") / "corrections.csv"
    assert str(corrections.relative_to(project.root)) in told
    with corrections.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    flagged = [row["file_name"] for row in table[: len(truth)]]
    assert len(truth.keys() & set(flagged)) >= 4  # the first doubts are the planted ones
    for row in table:  # what a person sees on the page
        row["label"] = truth.get(row["file_name"], "")
    with corrections.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        writer.writerows(table)

    command = re.search(r"3\. python -m pipeline (.*)", told)
    assert command is not None
    recorded = version.recorded(workspace)
    done = project.pipeline(*shlex.split(command[1]))
    assert "5  corrected" in done.stderr
    assert version.recorded(workspace) == version.folder_md5(workspace.data) != recorded
    after = parse_metadata(workspace.metadata.read_bytes())
    labels = dict(zip(after["file_name"], after["label"], strict=True))
    assert {name: labels[name] for name in truth} == truth
    changed = sum(a != b for a, b in zip(before["label"], after["label"], strict=True))
    assert changed == len(WRONG)

    with pytest.raises(PipelineError, match=r"5 images, such as .*run 'dvc repro augment' first"):
        judge_labels(workspace, params)
