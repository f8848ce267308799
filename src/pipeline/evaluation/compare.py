"""The stage ``compare``: rank the variants by the validation images and name the challenger.

The test images are reported beside it and have no say.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from pipeline.artifacts import replacing, replacing_folder, write_json
from pipeline.console import logger
from pipeline.errors import PipelineError
from pipeline.evaluation.bootstrap import Interval, Resampling, paired_bootstrap
from pipeline.evaluation.candidate import Candidate, read_candidate, require_same_images
from pipeline.evaluation.comparison import Entry, Page, corruption_errors, render_comparison
from pipeline.evaluation.duel import Duel, duel
from pipeline.evaluation.predictions import SPLITS
from pipeline.evaluation.wording import number, span
from pipeline.params import Params
from pipeline.vision.metrics import METRICS, finite
from pipeline.workspace import Workspace

COMPARISON = "comparison.html"
CURVES = ("roc", "pr", "calibration", "confusion", "training")


@dataclass(frozen=True)
class Place:
    """A candidate's place in the ranking."""

    rank: int
    candidate: Candidate
    behind: Interval
    """Its metric on validation minus that of the first, on the same images."""


def compare(workspace: Workspace, params: Params) -> None:
    """Write ``leaderboard.csv``, ``selection.json``, the page of the comparison and joint curves.

    Only variants that ``params.yaml`` names are read: what a removed one left does not count.

    Raises:
        PipelineError: a variant has no evaluation, or the evaluations are of different images.
    """
    metric = params.compare.metric
    candidates = [read_candidate(workspace, variant) for variant in params.variants]
    require_same_images(candidates)
    places = rank(candidates, metric, Resampling.of(params.evaluate))
    first = places[0].candidate

    duels = [
        _duel(first, place.candidate, metric, Resampling.of(params.evaluate))
        for place in places[1:]
    ]
    reference = params.compare.reference or next(iter(params.variants))
    table = leaderboard(places, duels, reference)
    with replacing(workspace.leaderboard) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    _join_curves(workspace, candidates)
    write_json(
        workspace.selection,
        {
            "challenger": first.variant,
            "metric": metric,
            "value": first.metrics["val"][metric].value,
            "weights_sha256": first.predictions.weights_sha256,
        },
    )
    entries = [_entry(place.candidate) for place in places]
    page = _page(places, duels, metric, reference)
    with replacing_folder(workspace.comparison) as folder:
        text = render_comparison(page, entries, duels)
        (folder / COMPARISON).write_text(text, encoding="utf-8")
    _show(places, metric)
    logger.info(
        "%s is the challenger; wrote %s, %s and %s",
        first.variant,
        *(
            path.relative_to(workspace.root)
            for path in (
                workspace.leaderboard,
                workspace.selection,
                workspace.comparison / COMPARISON,
            )
        ),
    )


def rank(candidates: list[Candidate], metric: str, resampling: Resampling) -> list[Place]:
    """Order by ``metric`` on validation; of equals the one with fewer parameters comes first.

    A candidate whose metric is undefined comes last.

    Raises:
        PipelineError: the metric is undefined for all of them.
    """

    def key(candidate: Candidate) -> tuple[bool, float, int, str]:
        value = candidate.metrics["val"][metric].value
        return value is None, -(value or 0.0), candidate.parameters, candidate.variant

    ordered = sorted(candidates, key=key)
    first = ordered[0]
    if first.metrics["val"][metric].value is None:
        raise PipelineError(
            f"compare.metric: {metric} is not defined on these validation images; it needs images"
            " of at least two classes, so choose another metric or another split"
        )
    return [
        Place(i, candidate, _difference(candidate, first, metric, resampling))
        for i, candidate in enumerate(ordered, start=1)
    ]


def leaderboard(places: list[Place], duels: list[Duel], reference: str) -> pd.DataFrame:
    """A row a variant, best first.

    Rank, variant, what it is behind the first by on validation, McNemar's p-value that it is right
    as often as the first on test, cost, the mean corruption error against ``reference``, and each
    metric of each split with its interval. What was not measured is empty.
    """
    p_values = {each.second: each.p_value for each in duels}
    errors = corruption_errors([_entry(place.candidate) for place in places], reference)
    rows = []
    for place in places:
        variant = place.candidate.variant
        row: dict[str, Any] = {"rank": place.rank, "variant": variant}
        row |= _columns("difference", place.behind)
        row["test_mcnemar_p"] = finite(p_values.get(variant, 1.0))
        row["parameters"] = place.candidate.parameters
        cost = place.candidate.sections.get("cost", {})
        row |= {name: cost.get(name) for name in ("multiply_adds", "weights_bytes")}
        error = errors.get(variant)
        row["mean_corruption_error"] = None if error is None else finite(error)
        for split in SPLITS:
            for name in METRICS:
                row |= _columns(f"{split}_{name}", place.candidate.metrics[split][name])
        rows.append(row)
    return pd.DataFrame(rows)


def _columns(name: str, interval: Interval) -> dict[str, float | None]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _difference(
    candidate: Candidate, first: Candidate, metric: str, resampling: Resampling
) -> Interval:
    if candidate is first:
        return Interval(0.0, 0.0, 0.0)
    a, b = candidate.predictions.samples["val"], first.predictions.samples["val"]
    return paired_bootstrap(
        metric,
        a.targets,
        a.probabilities,
        b.probabilities,
        weights=a.weights,
        groups=a.groups,
        resampling=resampling,
    )


def _duel(first: Candidate, other: Candidate, metric: str, resampling: Resampling) -> Duel:
    return duel(
        (first.variant, other.variant),
        (first.predictions.samples["test"], other.predictions.samples["test"]),
        first.predictions.of_split("test")["file_name"].tolist(),
        first.predictions.classes,
        metric=metric,
        resampling=resampling,
    )


def _entry(candidate: Candidate) -> Entry:
    return Entry(
        candidate.variant,
        candidate.metrics,
        candidate.parameters,
        cost=candidate.sections.get("cost"),
        timings=candidate.timings.get("cost"),
        corruptions=candidate.sections.get("corruptions"),
    )


def _page(places: list[Place], duels: list[Duel], metric: str, reference: str) -> Page:
    first, title = places[0].candidate, METRICS[metric].title.lower()
    in_percent = METRICS[metric].in_percent
    value = first.metrics["val"][metric]
    points = []
    for place, each in zip(places[1:], duels, strict=True):
        behind = number(place.behind.value, in_percent), span(place.behind, in_percent)
        surely = place.behind.high is not None and place.behind.high < 0
        points.append(
            f"{place.candidate.variant}: {behind[0]} ({behind[1]}) against it on the validation"
            f" images, {'clearly worse' if surely else 'which may be chance'}. On the test images"
            f" the two disagree about {each.only_first + each.only_second} of {each.images:,}."
        )
    return Page(
        title="Comparison of the variants",
        eyebrow="Leaderboard",
        headline=(
            f"{first.variant} is the challenger: its {title} on the validation images is"
            f" {number(value.value, in_percent)} ({span(value, in_percent)})."
        ),
        points=points,
        metric=metric,
        reference=reference,
    )


def _join_curves(workspace: Workspace, candidates: list[Candidate]) -> None:
    """Put each curve of all variants into one table: ``dvc plots`` shows them in one plot."""
    with replacing_folder(workspace.curves) as folder:
        for name in CURVES:
            # As text: a class may be called "None" or "001".
            parts = [
                pd.read_csv(
                    each.folder / "curves" / f"{name}.csv", dtype=str, keep_default_na=False
                ).assign(variant=each.variant)
                for each in candidates
            ]
            table = pd.concat(parts, ignore_index=True)
            table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


def _show(places: list[Place], metric: str) -> None:
    """The leaderboard on a terminal as it is meant to look; elsewhere as lines of the log."""
    title, unit = METRICS[metric].title, METRICS[metric].in_percent
    table = Table("", "variant", f"{title}, validation", "interval", "behind", "interval", "test")
    for place in places:
        val, test = (place.candidate.metrics[split][metric] for split in SPLITS)
        behind = [number(place.behind.value, unit), span(place.behind, unit)]
        table.add_row(
            str(place.rank),
            place.candidate.variant,
            *(number(val.value, unit), span(val, unit)),
            *(behind if place.rank > 1 else ["", ""]),
            number(test.value, unit),
        )
    if sys.stderr.isatty():
        Console(stderr=True).print(table)
        return
    text = io.StringIO()
    Console(file=text, width=120, color_system=None).print(table)
    for line in text.getvalue().rstrip().splitlines():
        logger.info("%s", line)
