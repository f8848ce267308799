from __future__ import annotations

import dataclasses
import html
import json
import re
from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError
from pipeline.evaluation.page import TEMPLATES
from pipeline.evaluation.report import Told, render, write_report
from pipeline.evaluation.section import Evaluated
from pipeline.evaluation.sections import SECTIONS, check_sections
from pipeline.params import Params
from tests.evaluation import synthetic
from tests.evaluation.pages import Page, assert_needs_nothing_else, seen_by_a_browser
from tests.evaluation.synthetic import make_evaluated, make_packed, make_params

CHEAP = (
    *("numbers", "classes", "confusion", "mistakes", "curves", "calibration", "decision"),
    *("abstention", "slices", "foreign", "cost", "training"),
)
"""Sections that take next to nothing."""


def named(params: Params) -> tuple[str, ...]:
    return params.evaluate.sections


def tell(evaluated: Evaluated, names: tuple[str, ...] = CHEAP) -> dict[str, Told]:
    return {name: Told(SECTIONS[name].find(evaluated), 0.5) for name in names}


def written(folder: Path, evaluated: Evaluated, names: tuple[str, ...] = CHEAP) -> str:
    write_report(folder / "report", evaluated, tell(evaluated, names))
    return (folder / "report" / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluated, dict[str, Told], Path]:
    """A report of all sections that the committed settings name, of seven classes in colour."""
    folder = tmp_path_factory.mktemp("full")
    params = make_params(folder)
    evaluated = make_evaluated(params, images=240, classes=7, skill=1.0, side=24, channels=3)
    told = tell(evaluated, named(params))
    write_report(folder / "report", evaluated, told)
    return evaluated, told, folder / "report"


def page_of(full: tuple[Evaluated, dict[str, Told], Path]) -> str:
    return (full[2] / "report.html").read_text(encoding="utf-8")


def test_the_committed_settings_name_every_section(full):
    assert set(named(full[0].params)) == set(SECTIONS)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_has_its_heading_link_figures_and_words(full, name):
    _, told, folder = full
    text = page_of(full)
    page = Page(text)
    assert name in page.ids
    assert f"#{name}" in page.links
    assert f">{html.escape(SECTIONS[name].title)}</a></h2>" in text
    for drawing in told[name].found.drawings:
        assert (folder / f"{drawing.name}.png").is_file()
    for point in told[name].found.points:
        assert html.escape(point.text, quote=False)[:60].split("“")[0] in text
    json.dumps(told[name].found.numbers, allow_nan=False)


def test_the_verdict_comes_first_and_how_to_reproduce_it_last(full):
    evaluated, told, _ = full
    sections = re.findall(r'<section id="([^"]+)"', page_of(full))
    assert sections == ["verdict", *told, "reproduce"]
    for value in (
        evaluated.predictions.weights_sha256,
        evaluated.packed.digest,
        evaluated.card.training_key,
        "dvc repro evaluate@small_cnn",
    ):
        assert value in page_of(full)


def test_the_report_needs_nothing_but_itself(full):
    assert_needs_nothing_else(page_of(full))


def test_the_seconds_of_each_section_are_told(full):
    _, told, folder = full
    timings = json.loads((folder / "timings.json").read_text(encoding="utf-8"))
    assert timings["seconds"] == dict.fromkeys(told, 0.5)
    assert page_of(full).count("<dd>0.50 s</dd>") == len(told)


def test_each_cell_of_the_confusion_matrix_opens_its_images(full):
    evaluated, told, _ = full
    page = Page(page_of(full))
    sample = evaluated.sample
    for i, row in enumerate(told["confusion"].found.values["cells"]):
        for j, cell in enumerate(row):
            inside = (sample.targets == i) & (sample.predicted == j)
            assert cell.count == inside.sum()
            assert bool(cell.shown) == bool(cell.count)
            assert (f"cell-{i}-{j}" in page.ids) == (f"#cell-{i}-{j}" in page.links)
            assert (f"cell-{i}-{j}" in page.ids) == bool(cell.count)


def test_groups_are_drawn_together_and_the_report_and_the_metrics_say_so(tmp_path, monkeypatch):
    params, names = make_params(tmp_path), ("numbers", "slices")
    said, measured = [], []
    for groups in (None, [f"module {i // 9}" for i in range(90)]):
        if groups is not None:
            packed = make_packed(side=16)
            packed = dataclasses.replace(packed, index=packed.index.assign(group=groups))
            monkeypatch.setattr(synthetic, "make_packed", lambda *_, it=packed, **__: it)
        evaluated = make_evaluated(params)
        told = {name: Told(SECTIONS[name].find(evaluated), 0.0) for name in names}
        said.append(render(evaluated, told, dict.fromkeys(names, ())))
        measured.append(evaluated.results.as_json())
    for sentence in ("are drawn together", "which those of a group are not"):
        assert sentence not in said[0]
        assert sentence in said[1]
    assert "groups" not in measured[0]
    assert measured[1]["groups"] == {"val": 10, "test": 10}


def test_sections_that_are_not_chosen_are_not_there(tmp_path):
    params = make_params(tmp_path)
    text = written(tmp_path, make_evaluated(params), ("slices", "numbers"))
    assert re.findall(r'<section id="([^"]+)"', text) == [
        *("verdict", "slices", "numbers", "reproduce"),
    ]
    assert_needs_nothing_else(text)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["numbers", "curvs"], r"evaluate\.sections: 'curvs' is not a section.*'curves'"),
        (["numbers", "numbers"], "there twice"),
        (["verdict"], "'verdict' is not a section"),
    ],
)
def test_sections_that_cannot_be_are_refused(names, message):
    with pytest.raises(ConfigurationError, match=message):
        check_sections(names)


def test_names_from_the_data_are_text_never_markup(tmp_path):
    evaluated = make_evaluated(make_params(tmp_path), classes=5, images=150)
    card = dataclasses.replace(evaluated.card, model="<script>alert(1)</script>")
    text = written(tmp_path, dataclasses.replace(evaluated, card=card))
    Page(text)
    assert "<script" not in text
    assert "<b>ring" not in text
    assert html.escape("cross & <b>ring</b>") in text


@pytest.mark.parametrize(
    ("gallery", "evaluated"),
    [
        (24, {"classes": 2, "skill": 60.0}),
        (0, {"classes": 2, "skill": -60.0}),
        (24, {"classes": 7, "images": 30}),
    ],
)
def test_a_report_can_be_written_of_anything(tmp_path, gallery, evaluated):
    params = make_params(tmp_path, gallery=gallery)
    text = written(tmp_path, make_evaluated(params, **evaluated))
    assert set(CHEAP) <= set(Page(text).ids)
    assert "None" not in re.sub(r"<svg.*?</svg>|<details>.*?</details>", "", text, flags=re.DOTALL)


def test_a_large_gallery_stays_below_five_megabytes(tmp_path):
    params = make_params(tmp_path, gallery=900)
    evaluated = make_evaluated(params, images=240, skill=-3, side=200)
    told = tell(evaluated, ("confusion", "mistakes"))
    assert 10 < len(told["mistakes"].found.values["mistakes"]) < 80
    write_report(tmp_path / "report", evaluated, told)
    assert (tmp_path / "report" / "report.html").stat().st_size < 5_000_000


def test_a_report_that_fails_leaves_the_old_one(tmp_path):
    evaluated = make_evaluated(make_params(tmp_path))
    before = written(tmp_path, evaluated, ("numbers",))
    broken = dataclasses.replace(evaluated, results=None)
    with pytest.raises(AttributeError):
        write_report(tmp_path / "report", broken, tell(evaluated, ("numbers",)))
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
def test_a_browser_shows_the_report_without_a_complaint(tmp_path, full, chromium, width):
    """No message on the console, every section and image there, and nothing wider than the
    screen; links and tables can be reached by keyboard, and a chosen cell shows its images."""
    seen = seen_by_a_browser(page_of(full), tmp_path, chromium, width=width)
    assert seen["sections"] == ["verdict", *full[1], "reproduce"]
    assert (seen["wide"], seen["broken"], seen["unreachable"]) == (0, 0, 0)
    assert seen["images"] == len(Page(page_of(full)).images)
    assert seen["panels"]
    assert set(seen["panels"]) == {"block"}
    assert seen["ink"].startswith("rgb")
