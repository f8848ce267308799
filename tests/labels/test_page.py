"""The page is one file, shows the doubts, and obeys nothing that a name says."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.pack import Packed
from pipeline.labels import page
from pipeline.labels.judge import _accepted
from pipeline.labels.page import Judgement, render
from pipeline.labels.quality import measure_quality

HOSTILE = "<img src=x onerror=alert(1)>\u202e\n&\"'.png"


def judgement(planted, *, shown: int = 6) -> Judgement:
    """Image 5 is doubted most, and images 4 and 6 are near duplicates of it."""
    packed = Packed.load(planted.workspace.packed)
    targets = packed.index["target"].to_numpy(np.int64)
    probabilities = np.full((len(targets), 2), 0.1)
    probabilities[np.arange(len(targets)), targets] = 0.9
    probabilities[5] = 1 - probabilities[5]
    probabilities[5] += [1e-3, -1e-3] if targets[5] else [-1e-3, 1e-3]
    table = _accepted(planted.workspace, packed)
    table.loc[5, "near_cluster"] = table["near_cluster"][4]
    quality = measure_quality(targets, probabilities)
    return Judgement("tiny", planted.params(shown=shown).labels, packed, table, quality)


def written(planted, given: Judgement) -> str:
    corrections = Path("labels/tiny/corrections.csv")
    return render(given, planted.workspace.data, corrections, f"ingest --relabel {corrections}")


def cards(text: str) -> list[str]:
    return re.findall(r"<figure.*?</figure>", text, flags=re.DOTALL)


def test_the_page_refers_to_nothing_outside_itself(judged):
    text = (judged.folder / "index.html").read_text(encoding="utf-8")
    sources = re.findall(r"""(?:src|href|url|srcset|action)\s*[=(]\s*["']?([^"'\s)>]+)""", text)
    assert len(sources) >= 10
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "<script" not in text
    assert "http:" not in text
    assert "https:" not in text
    assert "default-src 'none'" in text


def test_the_most_doubtful_stands_first_beside_its_near_duplicates(planted):
    given = judgement(planted, shown=3)
    shown = cards(written(planted, given))
    assert len(shown) == 3
    label, other = ("disc", "bar") if given.packed.index["target"][5] else ("bar", "disc")
    first = shown[0]
    assert "images/00005.png" in first
    assert re.search(rf"given</span><bdi>{label}</bdi><span class=\"p\">9\.9", first)
    assert re.search(rf"rather</span><bdi>{other}</bdi><span class=\"p\">90\.1", first)
    assert "near duplicates with another label" in first
    for twin in ("images/00004.png", "images/00006.png"):
        assert twin in first
    assert first.count("<img") == 3
    assert "near duplicates" not in shown[-1]
    assert "not flagged" in shown[-1]


def test_names_are_shown_and_never_obeyed(planted):
    given = judgement(planted)
    index = given.packed.index.assign(
        file_name=HOSTILE, label=given.packed.index["label"] + HOSTILE
    )
    packed = dataclasses.replace(
        given.packed, index=index, classes=tuple(f"{name}{HOSTILE}" for name in ("bar", "disc"))
    )
    text = written(planted, dataclasses.replace(given, packed=packed))
    assert "<img src=x" not in text
    assert "\u202e" not in text
    assert html.escape(r"<img src=x onerror=alert(1)>\u202e\n&").replace("&#x27;", "&#39;") in text
    # No such file in data/: the stored pixels stand in for it.
    assert all("<img" in card for card in cards(text))


def test_pictures_end_where_the_page_would_grow_too_large(planted, monkeypatch):
    monkeypatch.setattr(page, "MAX_BYTES", 5000)
    text = written(planted, judgement(planted, shown=20))
    drawn = re.findall('data:image/jpeg;base64,[^"]*', text)
    assert 1 <= len(drawn) < 20
    assert sum(map(len, drawn)) <= 5000
    first, *_, last = cards(text)
    assert "<img" in first
    assert "no picture" in last


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_page_without_a_complaint(planted, tmp_path, chromium, width):
    """No message on the console, every image there, and nothing wider than the screen."""
    given = judgement(planted)
    long = tuple(f"{name} {'a long name of a class_' * 4}" for name in given.packed.classes)
    given = dataclasses.replace(given, packed=dataclasses.replace(given.packed, classes=long))
    text = written(planted, given)
    # The page itself runs no script; for this look it may, and reports to the page around it.
    probe = """<script>addEventListener('load', () => parent.postMessage(JSON.stringify({
        wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        broken: [...document.images].filter(image => !image.naturalWidth).length
    }), '*'))</script>"""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    text = text.replace(' loading="lazy"', "")  # what is out of sight is to be looked at, too
    (tmp_path / "index.html").write_text(text.replace("</body>", f"{probe}</body>"), "utf-8")
    # In a frame, because a headless window is never as narrow as a phone.
    (tmp_path / "frame.html").write_text(
        "<script>addEventListener('message', event => document.title = event.data)</script>"
        f"<iframe src=index.html style='width: {width}px; height: 900px'></iframe>"
    )
    done = subprocess.run(
        [
            *(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000"),
            *("--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom"),
            (tmp_path / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "CONSOLE" not in done.stderr
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None, done.stderr
    assert json.loads(html.unescape(title[1])) == {"wide": 0, "broken": 0}
