from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from pipeline.evaluation import figures
from pipeline.evaluation.plots import MAX_CELLS, MAX_NAMED, PLOTS, Subject
from pipeline.evaluation.sections import SECTIONS
from pipeline.vision.metrics import Sample
from tests.evaluation.synthetic import CLASSES, make_history, make_sample


def subject(classes: int, *, images: int = 80, epochs: int = 4) -> Subject:
    names = [*CLASSES, *(f"class {i}" for i in range(200))][:classes]
    return Subject(make_sample(images, classes), tuple(names), make_history(epochs))


CASES = {
    "two classes": subject(2),
    "few classes": subject(5),
    "more than colours": subject(MAX_NAMED + 1),
    "more than cells": subject(MAX_CELLS + 10),
    "one image": subject(3, images=1, epochs=1),
    "all right": Subject(Sample.of([0, 1], np.eye(2)), ("bar", "disc"), make_history()),
    "sure and wrong": Subject(Sample.of([0, 1], np.eye(2)[::-1]), ("bar", "disc"), make_history()),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_can_be_drawn_of_anything(name, case):
    with figures.style():
        drawn = PLOTS[name].draw(CASES[case])
        text = figures.svg(drawn, name=name, description='of "this" & <that>')
    ET.fromstring(text)  # noqa: S314 (our own)
    assert PLOTS[name].section in SECTIONS


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_takes_its_colours_and_font_from_the_page(name):
    with figures.style():
        text = figures.svg(PLOTS[name].draw(CASES["few classes"]), name=name, description="")
    assert set(re.findall(r"var\(--(\w+)\)", text)) <= set(figures.LIGHT)
    assert "var(--ink)" in text
    assert not re.search(r"#[0-9a-f]{6}\b", text)
    assert "font-family" not in text
    assert "<style" not in text


def test_two_plots_on_a_page_share_no_id():
    with figures.style():
        ids = [
            re.findall(
                r'id="([^"]+)"',
                figures.svg(plot.draw(CASES["two classes"]), name=name, description=""),
            )
            for name, plot in PLOTS.items()
        ]
    together = [each for those in ids for each in those]
    assert together
    assert len(set(together)) == len(together)


@pytest.mark.parametrize("name", PLOTS)
def test_equal_plots_are_equal_bytes_whatever_the_users_own_style(name):
    def draw() -> tuple[str, bytes]:
        with figures.style():
            drawn = PLOTS[name].draw(subject(3))
            return figures.svg(drawn, name=name, description=""), figures.png(drawn)

    first = draw()
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 30, "svg.hashsalt": None}):
        assert draw() == first
    assert first[1].startswith(b"\x89PNG")
    assert b"matplotlib" not in first[1].lower()


def test_a_confusion_matrix_says_counts_and_shares_of_the_row():
    sample = Sample.of([0, 0, 0, 0, 1], np.eye(2)[[0, 0, 0, 1, 1]])
    with figures.style():
        drawn = PLOTS["confusion"].draw(Subject(sample, ("bar", "disc"), make_history()))
    written = [text.get_text() for text in drawn.axes[0].texts]
    assert [text.replace("\N{NARROW NO-BREAK SPACE}", " ") for text in written] == [
        *("3", "75 %"),
        *("1", "25 %"),
        "0",
        *("1", "100 %"),
    ]
