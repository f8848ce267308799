"""The report of one variant: one HTML file that needs nothing else, and its plots as PNG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.artifacts import replacing_folder, write_json
from pipeline.evaluation import figures
from pipeline.evaluation.calibration import CALIBRATION
from pipeline.evaluation.page import TIMINGS, Picture, draw, render_page
from pipeline.evaluation.section import Evaluated, Found
from pipeline.evaluation.sections import SECTIONS
from pipeline.evaluation.verdict import judge
from pipeline.params import Params
from pipeline.vision.metrics import METRICS

REPORT = "report.html"


@dataclass(frozen=True)
class Told:
    """A section with what it found, and what it took."""

    found: Found
    seconds: float


def write_report(folder: Path, evaluated: Evaluated, told: Mapping[str, Told]) -> None:
    """Write ``report.html``, the PNG of each figure and `TIMINGS` into ``folder``.

    The folder is replaced whole.

    Args:
        folder: of the variant's report.
        evaluated: the variant.
        told: the sections by their names, in their order.
    """
    files: dict[str, bytes] = {}
    pictures: dict[str, list[Picture]] = {}
    with figures.style():
        for name, each in told.items():
            drawn = [draw(drawing, evaluated.card.variant) for drawing in each.found.drawings]
            pictures[name] = [picture for picture, _ in drawn]
            files |= {
                drawing.name: png
                for drawing, (_, png) in zip(each.found.drawings, drawn, strict=True)
            }
    page = render(evaluated, told, pictures)
    with replacing_folder(folder) as temporary:
        (temporary / REPORT).write_text(page, encoding="utf-8")
        for name, content in files.items():
            (temporary / f"{name}.png").write_bytes(content)
        write_json(temporary / TIMINGS, timings(told))


def timings(told: Mapping[str, Told]) -> dict[str, Any]:
    """The seconds of each section, and what sections measured that is of this machine."""
    measured = {name: dict(each.found.timings) for name, each in told.items()}
    return {
        "seconds": {name: round(each.seconds, 3) for name, each in told.items()},
        **{name: values for name, values in measured.items() if values},
    }


def render(
    evaluated: Evaluated, told: Mapping[str, Told], pictures: Mapping[str, list[Picture]]
) -> str:
    """The report's HTML."""
    card, results, sample = evaluated.card, evaluated.results, evaluated.sample
    verdict = judge(card.variant, results, sample, card.classes, evaluated.resampling.confidence)
    return render_page(
        "report.html.jinja",
        sections=SECTIONS,
        told=told,
        pictures=pictures,
        metrics=METRICS,
        calibration_metrics=CALIBRATION,
        card=card,
        classes=card.classes,
        results=results,
        predictions=evaluated.predictions,
        resampling=evaluated.resampling,
        verdict=verdict,
        points=[*verdict.points, *(p for each in told.values() for p in each.found.points)],
        settings=_settings(evaluated.params, card.variant),
    )


def _settings(params: Params, variant: str) -> str:
    """What the variant was trained by, as YAML, without what only says where it is computed."""
    computed = {"device", "precision", "memory_format", "execution", "profile"}
    own = params.variant(variant).model_dump(mode="json", exclude=computed)
    policy, _ = params.policy(variant)
    return yaml.safe_dump({variant: own | {"policy": policy}}, sort_keys=False)
