"""The report of one variant: one HTML file that needs nothing else, and its plots as PNG."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.artifacts import replacing_folder
from pipeline.evaluation import figures
from pipeline.evaluation.bootstrap import Resampling
from pipeline.evaluation.gallery import Mistake
from pipeline.evaluation.measure import Results
from pipeline.evaluation.plots import PLOTS, Subject
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.verdict import judge
from pipeline.evaluation.wording import number, percent, short_span
from pipeline.params import Params
from pipeline.vision.card import ModelCard
from pipeline.vision.metrics import METRICS

TEMPLATES = Path(__file__).parent / "templates"
REPORT = "report.html"

SECTIONS = {
    "verdict": "Verdict",
    "numbers": "Key numbers",
    "classes": "Classes",
    "curves": "Curves",
    "confusion": "Confusion",
    "calibration": "Calibration",
    "slices": "Slices",
    "mistakes": "Mistakes",
    "training": "Training",
    "reproduce": "Reproduce",
}


@dataclass(frozen=True)
class Findings:
    """All that a report tells of a variant."""

    card: ModelCard
    predictions: Predictions
    results: Results
    mistakes: list[Mistake]
    history: pd.DataFrame


@dataclass(frozen=True)
class Picture:
    """A plot as the report holds it."""

    title: str
    section: str
    caption: str
    svg: Markup


def write_report(folder: Path, findings: Findings, params: Params) -> None:
    """Write ``report.html`` and the PNG of each plot into ``folder``, which is replaced whole."""
    files, pictures = _draw(findings)
    page = render(findings, params, pictures).lstrip()
    with replacing_folder(folder) as temporary:
        (temporary / REPORT).write_text(page, encoding="utf-8")
        for name, content in files.items():
            (temporary / f"{name}.png").write_bytes(content)


def render(findings: Findings, params: Params, pictures: list[Picture]) -> str:
    """The report's HTML."""
    card, results = findings.card, findings.results
    sample = findings.predictions.samples["test"]
    resampling = Resampling.of(params.evaluate)
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),  # noqa: S704 (ours)
            sections=SECTIONS,
            metrics=METRICS,
            card=card,
            classes=findings.predictions.classes,
            results=results,
            predictions=findings.predictions,
            resampling=resampling,
            verdict=judge(card.variant, results, sample, card.classes, resampling.confidence),
            plots=pictures,
            mistakes=findings.mistakes,
            mistakes_total=int((~sample.correct).sum()),
            settings=_settings(params, card.variant),
        )
    )


def _draw(findings: Findings) -> tuple[dict[str, bytes], list[Picture]]:
    """Every plot as a PNG and as an SVG."""
    sample = findings.predictions.samples["test"]
    subject = Subject(sample, findings.predictions.classes, findings.history)
    files, pictures = {}, []
    with figures.style():
        for name, plot in PLOTS.items():
            figure = plot.draw(subject)
            files[name] = figures.png(figure)
            description = f"{plot.title} of {findings.card.variant}. {plot.caption}"
            # Ours: matplotlib escapes the text it draws, and `svg` the description.
            text = Markup(figures.svg(figure, name=name, description=description))  # noqa: S704
            pictures.append(Picture(plot.title, plot.section, plot.caption, text))
    return files, pictures


def _settings(params: Params, variant: str) -> str:
    """What the variant was trained by, as YAML, without what only says where it is computed."""
    computed = {"device", "precision", "memory_format", "execution", "profile"}
    own = params.variant(variant).model_dump(mode="json", exclude=computed)
    policy, _ = params.policy(variant)
    return yaml.safe_dump({variant: own | {"policy": policy}}, sort_keys=False)


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
        "span": short_span,
        "position": _position,
    }
    return environment


def _position(value: float | None) -> str:
    """Where a share from 0 to 1 lies on a bar, for CSS."""
    return f"{100 * min(max(value or 0.0, 0.0), 1.0):.2f}%"
