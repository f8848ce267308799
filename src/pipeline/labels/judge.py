"""``python -m pipeline labels``: which labels are doubtful, and a table to correct them in."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.artifacts import write_json, write_text
from pipeline.console import logger
from pipeline.data.ingestion.relabel import REMOVE
from pipeline.data.manifest import read_table, to_frame
from pipeline.data.pack import Packed
from pipeline.data.scanning.listing import read_listing
from pipeline.data.wording import several
from pipeline.errors import ConfigurationError, PipelineError, did_you_mean
from pipeline.labels.crossfit import out_of_fold
from pipeline.labels.folds import families, fold_splits
from pipeline.labels.page import Judgement, render
from pipeline.labels.quality import LabelQuality, measure_quality
from pipeline.labels.table import (
    CORRECTIONS,
    LABELS,
    read_filled,
    write_corrections,
    write_labels,
)
from pipeline.params import Params
from pipeline.training.environment import ending_cleanly
from pipeline.workspace import Workspace

PAGE = "index.html"
SUMMARY = "summary.json"

CLUSTERS = ("duplicate_cluster", "near_cluster")


def judge_labels(workspace: Workspace, params: Params, variant: str | None = None) -> None:
    """Score every accepted image's label by networks that did not learn from it.

    Writes to ``labels/VARIANT``: `LABELS` with every label, `CORRECTIONS` with the doubtful ones to
    be filled in and given to ``ingest --relabel``, `PAGE` with their pictures, and `SUMMARY`. The
    same data, settings and machine give the same bytes, also after an interruption.

    Args:
        variant: whose networks judge; by default ``labels.variant``, or the first of all.

    Raises:
        ConfigurationError: there is no such variant, network, device or group column.
        DataRefused: the images are too few, or a table of corrections cannot be read.
        Busy: another process is training the same.
        PipelineError: the packed data is missing or older than ``data/``, or a training failed.
    """
    variant = variant or params.labels.variant or next(iter(params.variants))
    params.variant(variant)
    folder = workspace.labels(variant)
    packed = _load(workspace)
    most_rows = params.ingest.limits.files
    read_filled(folder / CORRECTIONS, most_rows=most_rows)  # to be refused now, not in an hour
    table = _accepted(workspace, packed)
    splits = fold_splits(
        packed.index["target"].to_numpy(np.int64),
        families(_together(table, params.split.group)),
        packed.index["image_id"].tolist(),
        classes=packed.classes,
        folds=params.labels.folds,
        seed=params.labels.seed,
    )
    with ending_cleanly():
        probabilities = out_of_fold(workspace, params, variant, packed, splits)
    quality = measure_quality(packed.index["target"].to_numpy(np.int64), probabilities)
    judgement = Judgement(variant, params.labels, packed, table, quality)
    filled = read_filled(folder / CORRECTIONS, most_rows=most_rows)
    _write(workspace, judgement, filled)


def _load(workspace: Workspace) -> Packed:
    if not (workspace.packed / "packed.json").exists():
        raise PipelineError(
            f"labels: there are no packed images in {workspace.packed};"
            " run 'dvc repro augment' first"
        )
    packed = Packed.load(workspace.packed)
    _refuse_stale(workspace, packed)
    return packed


def _refuse_stale(workspace: Workspace, packed: Packed) -> None:
    """Compare the packed labels with those of ``data/``, where that is on this machine."""
    if not workspace.metadata.is_file():
        return
    now = to_frame(read_listing(workspace.metadata))
    labels = dict(zip(now["file_name"], now["label"], strict=True))
    pairs = zip(packed.index["file_name"], packed.index["label"], strict=True)
    other = [name for name, label in pairs if labels.get(name) != label]
    if other:
        raise PipelineError(
            f"labels: data/ has changed since it was packed: {several(len(other), 'image')}, such"
            f" as {other[0]}, gone or with another label; run 'dvc repro augment' first"
        )


def _accepted(workspace: Workspace, packed: Packed) -> pd.DataFrame:
    """The scan's rows of the packed images, in their order."""
    accepted = to_frame(read_table(workspace.accepted)).set_index("file_name", drop=False)
    table = accepted.reindex(packed.index["file_name"]).reset_index(drop=True)
    known = {"sha256", *CLUSTERS} <= set(table.columns)
    if not known or not (table["sha256"] == packed.index["image_id"]).all():
        raise PipelineError(
            f"{workspace.accepted}: is of other images than {workspace.packed},"
            " or of an older version of the scan;"
            " run 'dvc repro augment' first"
        )
    return table


def _together(table: pd.DataFrame, group: str | None) -> list[pd.Series]:
    """Whose equal values must not be torn apart; null where a row is on its own."""
    if group is not None and group not in table.columns:
        raise ConfigurationError(
            f"params.yaml: split.group: the data has no column '{group}'"
            + did_you_mean(group, map(str, table.columns))
        )
    clusters = [table[name].where(table[name] >= 0) for name in CLUSTERS]
    return [*clusters, *([] if group is None else [table[group]])]


def _write(workspace: Workspace, judgement: Judgement, filled: dict[str, str]) -> None:
    folder = workspace.labels(judgement.variant)
    packed, quality = judgement.packed, judgement.quality
    file_names = packed.index["file_name"].tolist()
    write_labels(folder / LABELS, quality, file_names, packed.classes)
    summary = {
        "variant": judgement.variant,
        "settings": judgement.params.model_dump(mode="json"),
        "data_digest": packed.digest,
        **quality.as_json(packed.classes),
    }
    write_json(folder / SUMMARY, summary)
    corrections = (folder / CORRECTIONS).relative_to(workspace.root)
    command = f"python -m pipeline ingest --relabel {shlex.quote(str(corrections))}"
    write_text(folder / PAGE, render(judgement, workspace.data, corrections, command))
    kept = write_corrections(
        folder / CORRECTIONS,
        quality,
        file_names,
        packed.classes,
        shown=judgement.params.shown,
        filled=filled,
    )
    _tell(workspace, folder, quality, packed.classes)
    if kept:
        logger.info("labels: kept %s that were filled in before", several(kept, "correction"))
    logger.info("1. look at %s", (folder / PAGE).relative_to(workspace.root))
    logger.info(
        "2. fill in the column 'label' of %s; an empty cell leaves an image as it is, '%s' takes"
        " it out",
        *(corrections, REMOVE),
    )
    logger.info("3. %s", command)


def _tell(
    workspace: Workspace, folder: Path, quality: LabelQuality, classes: tuple[str, ...]
) -> None:
    flagged = int(quality.issue.sum())
    pairs = [
        f"{pair.flagged:,} × '{classes[pair.given]}' rather '{classes[pair.actual]}'"
        for pair in quality.pairs()
        if pair.flagged
    ]
    logger.info(
        "labels: %s of %s doubtful%s → %s",
        f"{flagged:,}",
        several(len(quality.sample), "label"),
        f" ({', '.join(pairs[:3])}{', …' if pairs[3:] else ''})" if pairs else "",
        folder.relative_to(workspace.root),
    )
