"""What a run ends with, made from what the stages wrote."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import yaml
from PIL import Image

from flows import leaderboard
from pipeline.params import Params, load
from pipeline.workspace import Workspace

from .conftest import LEADERBOARD


@pytest.fixture
def workspace(tmp_path, params_text) -> Workspace:
    params = yaml.safe_load(params_text)
    params["variants"] = {"a": {"model": "small_cnn"}, "b": {"model": "small_cnn"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    workspace = Workspace(tmp_path)
    workspace.artifacts.mkdir()
    workspace.leaderboard.write_text(LEADERBOARD, encoding="utf-8")
    return workspace


def board(workspace: Workspace) -> leaderboard.Board:
    params: Params = load(workspace.params)
    return leaderboard.read(workspace, params, "version 3 is the champion")


def test_variants_are_shown_as_ranked_with_their_intervals(workspace, capsys):
    leaderboard.show(board(workspace))
    printed = capsys.readouterr().out
    first, second = (line for line in printed.splitlines() if re.match(r"│ \d", line))
    assert first.split()[3] == "b"
    assert "0.900 (0.88–0.92)" in first
    assert "0.800 (0.78–0.82)" in first
    assert "–" in first.split("│")[6]  # no AUROC: undefined, not zero
    assert second.split()[3] == "a"
    assert "0.500" in second


def test_the_end_of_a_run_says_where_to_go_from_here(workspace, capsys):
    leaderboard.show(board(workspace))
    printed = capsys.readouterr().out
    assert "version 3 is the champion" in printed
    assert "artifacts/reports/b/report.html" in printed
    assert "make ui" in printed
    assert "http://127.0.0.1:5000" in printed
    assert "http://127.0.0.1:4200" in printed


def test_the_artifact_holds_small_pictures_whatever_their_files_weigh(workspace):
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(workspace.preview)
    report = workspace.report("b")
    report.mkdir(parents=True)
    Image.fromarray(noise[:800, :800]).save(report / "confusion_test.png")
    text = leaderboard.markdown(board(workspace))
    assert len(text) < 200_000 + 5_000
    pictures = re.findall(r"!\[[^]]+\]\(data:image/jpeg;base64,([^)]+)\)", text)
    assert len(pictures) == 2
    for picture in pictures:
        with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
            assert min(image.size) > 100


def test_the_artifact_does_without_pictures(workspace):
    text = leaderboard.markdown(board(workspace))
    assert "data:image" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[2].startswith("| 1 | b | 0.900 (0.88–0.92) |")
    assert len({row.count("|") for row in rows}) == 1


def test_a_bar_in_a_cell_does_not_break_the_table(workspace):
    workspace.leaderboard.write_text(LEADERBOARD.replace("1,b,", "1,b|c,"), encoding="utf-8")
    assert r"b\|c" in leaderboard.markdown(board(workspace))
