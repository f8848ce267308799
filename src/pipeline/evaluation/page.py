"""Pages that need nothing but themselves: their style, their figures, their words for numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from pipeline.evaluation import figures
from pipeline.evaluation.wording import count, number, percent, short_span

TEMPLATES = Path(__file__).parent / "templates"
TIMINGS = "timings.json"
"""Beside a report: what differs from run to run. No stage depends on this file."""


@dataclass(frozen=True)
class Drawing:
    """A figure of a section; its PNG, beside the report, has the drawing's name."""

    name: str
    title: str
    caption: str
    """How to read it."""
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Picture:
    """A figure as the page holds it."""

    title: str
    caption: str
    svg: Markup


def render_page(template: str, **values: Any) -> str:
    """A page of ``templates/`` with the project's style inside."""
    css = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))  # noqa: S704 (ours)
    return _environment().get_template(template).render(css=css, **values).lstrip()


def draw(drawing: Drawing, what: str) -> tuple[Picture, bytes]:
    """A drawing as the page holds it, and as PNG; within `figures.style`."""
    figure = drawing.draw()
    description = f"{drawing.title} of {what}. {drawing.caption}"
    # Ours: matplotlib escapes the text it draws, and `svg` the description.
    svg = Markup(figures.svg(figure, name=drawing.name, description=description))  # noqa: S704
    return Picture(drawing.title, drawing.caption, svg), figures.png(figure)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "number": number,
        "count": count,
        "span": short_span,
        "position": _position,
    }
    return environment


def _position(value: float | None) -> str:
    """Where a share from 0 to 1 lies on a bar, for CSS."""
    return f"{100 * min(max(value or 0.0, 0.0), 1.0):.2f}%"
