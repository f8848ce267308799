from __future__ import annotations

import dataclasses
import html
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.evaluation.bootstrap import Resampling
from pipeline.evaluation.gallery import worst_mistakes
from pipeline.evaluation.measure import measure
from pipeline.evaluation.plots import PLOTS
from pipeline.evaluation.report import SECTIONS, TEMPLATES, Findings, write_report
from pipeline.params import Params, load
from pipeline.vision.card import ModelCard
from tests.evaluation.synthetic import make_history, make_packed, make_predictions

VOID = {"meta", "link", "img", "br", "hr", "input"}


@pytest.fixture
def params(tmp_path: Path, params_text: str) -> Params:
    (tmp_path / "params.yaml").write_text(params_text, encoding="utf-8")
    return load(tmp_path / "params.yaml")


def make_findings(
    *, images: int = 240, classes: int = 3, skill: float = 1.0, side: int = 20, gallery: int = 24
) -> Findings:
    packed = make_packed(images, classes, side=side, channels=3)
    predictions = make_predictions(packed, skill=skill)
    card = ModelCard(
        variant="small_cnn",
        model="small_cnn",
        architecture={},
        classes=packed.classes,
        channels=3,
        image_size=side,
        stored_size=side,
        mean=packed.mean,
        std=packed.std,
        data_digest=packed.digest,
        training_key="k" * 64,
        seed=0,
        parameters=1234,
        plan={"precision": "float32", "memory_format": "channels_last"},
    )
    return Findings(
        card,
        predictions,
        measure(predictions, Resampling(100, 0.95, 0)),
        worst_mistakes(packed, predictions, gallery),
        make_history(),
    )


class Page(HTMLParser):
    """What a page is made of; fails on a tag that is closed in the wrong place."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found["href"] or ""] if tag == "a" else []
        self.images += [found] if tag == "img" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def written(folder: Path, findings: Findings, params: Params) -> str:
    write_report(folder / "report", findings, params)
    return (folder / "report" / "report.html").read_text(encoding="utf-8")


def test_the_report_has_every_section_and_plot(tmp_path, params):
    findings = make_findings()
    text = written(tmp_path, findings, params)
    page = Page(text)
    assert set(SECTIONS) <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert {path.stem for path in (tmp_path / "report").glob("*.png")} == set(PLOTS)
    assert text.count("<svg") == len(PLOTS)
    assert len(page.images) == len(findings.mistakes) == 24
    assert all(image["alt"] for image in page.images)
    for value in (findings.predictions.weights_sha256, "d" * 64, "dvc repro evaluate@small_cnn"):
        assert value in text
    assert "serial: left out" in text


def test_the_report_needs_nothing_but_itself(tmp_path, params):
    text = written(tmp_path, make_findings(), params)
    page = Page(text)
    assert not {"script", "iframe", "object"} & page.tags
    assert all(link.startswith("#") for link in page.links)
    assert all((image["src"] or "").startswith("data:") for image in page.images)
    assert not re.findall(r"url\((?!#)", text)
    addresses = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_names_from_the_data_are_text_never_markup(tmp_path, params):
    findings = make_findings(classes=5)
    card = dataclasses.replace(findings.card, model="<script>alert(1)</script>")
    text = written(tmp_path, dataclasses.replace(findings, card=card), params)
    Page(text)
    assert "<script" not in text
    assert "<b>ring" not in text
    assert html.escape("cross & <b>ring</b>") in text


@pytest.mark.parametrize(
    "findings",
    [
        {"classes": 2, "skill": 60.0},
        {"classes": 2, "skill": -60.0, "gallery": 0},
        {"classes": 7, "images": 30},
    ],
)
def test_a_report_can_be_written_of_anything(tmp_path, params, findings):
    text = written(tmp_path, make_findings(**findings), params)
    assert set(SECTIONS) <= set(Page(text).ids)
    assert "None" not in re.sub(r"<svg.*?</svg>|<details>.*?</details>", "", text, flags=re.DOTALL)


def test_a_large_gallery_stays_below_five_megabytes(tmp_path, params):
    findings = make_findings(images=240, skill=-3, side=200, gallery=900)
    assert 10 < len(findings.mistakes) < 80
    write_report(tmp_path / "report", findings, params)
    assert (tmp_path / "report" / "report.html").stat().st_size < 5_000_000


def test_a_report_that_fails_leaves_the_old_one(tmp_path, params):
    findings = make_findings()
    before = written(tmp_path, findings, params)
    with pytest.raises(AttributeError):
        write_report(tmp_path / "report", dataclasses.replace(findings, card=None), params)
    assert (tmp_path / "report" / "report.html").read_text(encoding="utf-8") == before


@pytest.mark.parametrize("template", sorted(path.name for path in TEMPLATES.glob("dvc_*.json")))
def test_a_template_for_dvc_plots_takes_data_and_tells_variants_apart(template):
    content = json.loads((TEMPLATES / template).read_text(encoding="utf-8"))
    assert content["data"] == {"values": "<DVC_METRIC_DATA>"}
    text = json.dumps(content)
    for needed in ("<DVC_METRIC_X>", "<DVC_METRIC_Y>", '"variant"', '"rev"'):
        assert needed in text


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_report_without_a_complaint(tmp_path, params, chromium, width):
    """No message on the console, every image there, and nothing wider than the screen."""
    text = written(tmp_path, make_findings(classes=7), params)
    # The page itself runs no script; for this look it may, and reports to the page around it.
    probe = """<script>addEventListener('load', () => parent.postMessage(JSON.stringify({
        wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        broken: [...document.images].filter(image => !image.naturalWidth).length,
        ink: getComputedStyle(document.querySelector('svg text')).fill}), '*'))</script>"""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    (tmp_path / "report.html").write_text(text.replace("</body>", f"{probe}</body>"), "utf-8")
    # In a frame, because a headless window is never as narrow as a phone.
    (tmp_path / "page.html").write_text(
        "<script>addEventListener('message', event => document.title = event.data)</script>"
        f"<iframe src=report.html style='width: {width}px; height: 900px'></iframe>"
    )
    done = subprocess.run(
        [
            *(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000"),
            *("--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom"),
            (tmp_path / "page.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "CONSOLE" not in done.stderr
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None, done.stderr
    seen = json.loads(html.unescape(title[1]))
    assert (seen["wide"], seen["broken"]) == (0, 0)
    assert seen["ink"].startswith("rgb")
