"""The sections a report can have; ``evaluate.sections`` in ``params.yaml`` chooses and orders them.

The verdict always comes first, and how to reproduce the evaluation last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from pipeline.errors import ConfigurationError, did_you_mean
from pipeline.evaluation import abstention, cost, decision, foreign
from pipeline.evaluation.explain.section import SECTION as EXPLANATIONS
from pipeline.evaluation.gallery import confusion_cells, worst_mistakes
from pipeline.evaluation.page import Drawing
from pipeline.evaluation.plots import MAX_CELLS, PLOTS, Subject
from pipeline.evaluation.robustness import attacks, corruptions, invariance
from pipeline.evaluation.section import Evaluated, Found, Section

WHERE = "params.yaml: evaluate.sections"


def check_sections(names: Iterable[str]) -> None:
    """Refuse names that are no section, or come twice.

    Raises:
        ConfigurationError: naming the first.
    """
    seen = set[str]()
    for name in names:
        if name not in SECTIONS:
            raise ConfigurationError(
                f"{WHERE}: '{name}' is not a section{did_you_mean(name, SECTIONS) or ';'}"
                f" allowed: {', '.join(SECTIONS)}"
            )
        if name in seen:
            raise ConfigurationError(f"{WHERE}: '{name}' is there twice; name it once")
        seen.add(name)


def _plots(section: str) -> Callable[[Evaluated], Found]:
    """A section of the plots that `PLOTS` assigns to it."""

    def find(evaluated: Evaluated) -> Found:
        subject = Subject(evaluated.sample, evaluated.card.classes, evaluated.history)
        return Found(
            drawings=tuple(
                Drawing(name, plot.title, plot.caption, partial(plot.draw, subject))
                for name, plot in PLOTS.items()
                if plot.section == section
            )
        )

    return find


def _confusion(evaluated: Evaluated) -> Found:
    """The matrix as a table that opens each cell's images; with many classes as a figure."""
    drawings = _plots("confusion")(evaluated).drawings
    few = len(evaluated.card.classes) <= MAX_CELLS
    cells = confusion_cells(evaluated.packed, evaluated.predictions) if few else []
    return Found(values={"cells": cells}, drawings=drawings)


def _mistakes(evaluated: Evaluated) -> Found:
    limit = evaluated.params.evaluate.gallery
    return Found(
        values={
            "mistakes": worst_mistakes(evaluated.packed, evaluated.predictions, limit),
            "total": int((~evaluated.sample.correct).sum()),
        }
    )


def _nothing(evaluated: Evaluated) -> Found:  # noqa: ARG001
    """Of a section that shows what is measured of every variant (`measure.Results`)."""
    return Found()


SECTIONS: dict[str, Section] = {
    "numbers": Section("Key numbers", "numbers.html.jinja", _nothing),
    "classes": Section("Classes", "classes.html.jinja", _nothing),
    "confusion": Section("Confusion", "confusion.html.jinja", _confusion),
    "mistakes": Section("Mistakes", "mistakes.html.jinja", _mistakes),
    "curves": Section("Curves", "figures.html.jinja", _plots("curves")),
    "calibration": Section("Calibration", "calibration.html.jinja", _plots("calibration")),
    "decision": Section("Decisions", "decision.html.jinja", decision.find),
    "abstention": Section("Abstention", "abstention.html.jinja", abstention.find),
    "slices": Section("Slices", "slices.html.jinja", _nothing),
    "corruptions": Section("Corruptions", "corruptions.html.jinja", corruptions.find),
    "attacks": Section("Attacks", "attacks.html.jinja", attacks.find),
    "invariance": Section("Invariance", "invariance.html.jinja", invariance.find),
    "foreign": Section("Foreign images", "foreign.html.jinja", foreign.find),
    "cost": Section("Cost", "cost.html.jinja", cost.find),
    "training": Section("Training", "figures.html.jinja", _plots("training")),
    "explanations": EXPLANATIONS,
}
"""By the name that ``params.yaml`` uses. A new section is an entry here and its template."""
