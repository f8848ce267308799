"""The stage ``compare``: rank the variants by the validation images and name the challenger.

The test images are reported beside it and have no say.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from pipeline.artifacts import read_json, replacing, replacing_folder, write_json
from pipeline.console import logger
from pipeline.errors import PipelineError
from pipeline.evaluation.bootstrap import Interval, Resampling, paired_bootstrap
from pipeline.evaluation.predictions import SPLITS, Predictions
from pipeline.evaluation.wording import number, span
from pipeline.params import Params
from pipeline.vision.metrics import METRICS
from pipeline.workspace import Workspace

CURVES = ("roc", "pr", "calibration", "confusion", "training")


@dataclass(frozen=True)
class Candidate:
    """One evaluated variant."""

    variant: str
    folder: Path
    predictions: Predictions
    metrics: dict[str, dict[str, Interval]]
    """By split and name."""

    @property
    def parameters(self) -> int:
        return self.predictions.parameters


@dataclass(frozen=True)
class Place:
    """A candidate's place in the ranking."""

    rank: int
    candidate: Candidate
    behind: Interval
    """Its metric on validation minus that of the first, on the same images."""


def compare(workspace: Workspace, params: Params) -> None:
    """Write ``leaderboard.csv``, ``selection.json`` and the joint curves for ``dvc plots``.

    Only variants that ``params.yaml`` names are read: what a removed one left does not count.

    Raises:
        PipelineError: a variant has no evaluation, or the evaluations are of different images.
    """
    metric = params.compare.metric
    candidates = [_read(workspace, variant) for variant in params.variants]
    _require_same_images(candidates)
    places = rank(candidates, metric, Resampling.of(params.evaluate))
    first = places[0].candidate

    table = leaderboard(places)
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
    _show(places, metric)
    logger.info(
        "%s is the challenger; wrote %s and %s",
        first.variant,
        workspace.leaderboard.relative_to(workspace.root),
        workspace.selection.relative_to(workspace.root),
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


def leaderboard(places: list[Place]) -> pd.DataFrame:
    """A row a variant, best first: rank, variant, what it is behind the first by, parameters, and
    each metric of each split with its interval."""
    rows = []
    for place in places:
        row: dict[str, Any] = {"rank": place.rank, "variant": place.candidate.variant}
        row |= _columns("difference", place.behind)
        row["parameters"] = place.candidate.parameters
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
        resampling=resampling,
    )


def _read(workspace: Workspace, variant: str) -> Candidate:
    folder = workspace.evaluation(variant)
    for name in ("metrics.json", "predictions.parquet"):
        if not (folder / name).is_file():
            raise PipelineError(
                f"variant '{variant}' has no evaluation: {folder / name} is missing;"
                f" run 'dvc repro evaluate@{variant}', or take it out of variants in params.yaml"
            )
    measured = read_json(folder / "metrics.json")
    metrics = {
        split: {name: Interval.from_json(measured[split][name]) for name in METRICS}
        for split in SPLITS
    }
    return Candidate(variant, folder, Predictions.read(folder / "predictions.parquet"), metrics)


def _require_same_images(candidates: list[Candidate]) -> None:
    first = candidates[0]
    for other in candidates[1:]:
        if other.predictions.data_digest != first.predictions.data_digest:
            raise PipelineError(
                f"variants '{first.variant}' and '{other.variant}' were evaluated on different"
                " data; run 'dvc repro' to evaluate both on the same"
            )


def _join_curves(workspace: Workspace, candidates: list[Candidate]) -> None:
    """Put each curve of all variants into one table: ``dvc plots`` shows them in one plot."""
    with replacing_folder(workspace.curves) as folder:
        for name in CURVES:
            parts = [
                pd.read_csv(each.folder / "curves" / f"{name}.csv").assign(variant=each.variant)
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
