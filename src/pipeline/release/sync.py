"""Every trained variant gets its run, also where DVC took its outputs from a cache or a remote.

A run holds the settings, curves, data and code of a training, and the evaluation of its weights:
metrics, tables, plots and report. The weights themselves go to MLflow with the registered model
alone, since DVC keeps those of every variant.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipeline import journal
from pipeline.artifacts import require, sha256_file
from pipeline.console import logger
from pipeline.evaluation.predictions import Predictions
from pipeline.journal import Entry
from pipeline.params import Params
from pipeline.tracking import PARENT_RUN, TRAINING_KEY, WEIGHTS, Store, StoreAway, open_store
from pipeline.tracking.flow_run import VARIANT_TAG
from pipeline.tracking.runs import (
    KIND,
    PARENT,
    create_run,
    describe_training,
    end_run,
    evaluation_metrics,
    find_runs,
    log_metrics,
    log_rows,
    rows_of,
)
from pipeline.tracking.store import answering, available, first_line, store_uri
from pipeline.vision.card import CARD, HISTORY, ModelCard
from pipeline.vision.card import WEIGHTS as WEIGHTS_FILE
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities import Run

EVALUATION = "evaluation_sha256"
"""Tag: the hash of the evaluation's files that the run has."""
MADE_FROM = "made_from"
"""Tag of a run that no training wrote."""


@dataclass(frozen=True)
class RunLink:
    """Which run holds a variant, and since when."""

    variant: str
    run_id: str
    origin: str
    """``trained in this run``, or ``unchanged: …`` where the flow had nothing to train."""


def sync(workspace: Workspace, params: Params, parent_run_id: str | None = None) -> list[RunLink]:
    """Make or complete the runs of all variants that are trained; a second time changes nothing.

    The parent, by default the run in the environment variable `PARENT_RUN`, gets a link to each.

    Raises:
        StoreAway: the store does not answer.
    """
    parent = parent_run_id or os.environ.get(PARENT_RUN)
    store = open_store(workspace)
    links = []
    with answering(store.uri):
        for variant in params.variants:
            if not (workspace.model(variant) / WEIGHTS_FILE).is_file():
                logger.info("%s is not trained yet: 'dvc repro' trains it", variant)
                continue
            link = _sync(workspace, params, variant, store, parent)
            logger.info("%s: run %s%s", variant, link.run_id, f", {link.origin}" if parent else "")
            links.append(link)
            if parent:
                for what in ("run_id", "origin"):
                    name = VARIANT_TAG.format(name=variant, what=what)
                    store.client.set_tag(parent, name, getattr(link, what))
    return links


def sync_variant(workspace: Workspace, params: Params, variant: str) -> RunLink | None:
    """Make or complete one variant's run, as part of a stage.

    A stage is done without MLflow too: where that is missing or away, a line in the log says so.
    """
    if not available():
        logger.info("MLflow is not installed here: %s gets its run by 'sync' later", variant)
        return None
    later = f"'python -m pipeline sync' gives {variant} its run later"
    try:
        store = open_store(workspace)
        with answering(store.uri):
            return _sync(workspace, params, variant, store, os.environ.get(PARENT_RUN))
    except StoreAway as error:
        logger.warning("%s; %s", error, later)
    except Exception as error:  # noqa: BLE001 (no fault of MLflow's may end a stage)
        logger.warning("MLflow at %s: %s; %s", store_uri(workspace), first_line(error), later)
    return None


def _sync(
    workspace: Workspace, params: Params, variant: str, store: Store, parent: str | None
) -> RunLink:
    folder = workspace.model(variant)
    weights = sha256_file(require(folder / WEIGHTS_FILE))
    card = ModelCard.read(folder)
    run = _complete_run(workspace, params, variant, store, card, weights)
    _log_evaluation(workspace, variant, store, run, weights)
    return RunLink(variant, run.info.run_id, _origin(run, parent))


def _origin(run: Run, parent: str | None) -> str:
    tags = run.data.tags
    if MADE_FROM in tags:
        return "unchanged: its outputs came from a cache or a remote"
    if parent is not None and tags.get(PARENT) == parent:
        return "trained in this run"
    return f"unchanged: produced by run {tags[PARENT]}" if PARENT in tags else "unchanged"


def _complete_run(
    workspace: Workspace, params: Params, variant: str, store: Store, card: ModelCard, weights: str
) -> Run:
    """The run that ended with ``weights``: found, or completed, or made from the outputs."""
    if found := find_runs(store, {"variant": variant, WEIGHTS: weights}):
        return found[0]
    # A training whose end did not get to the store left a run without weights.
    begun = find_runs(store, {"variant": variant, TRAINING_KEY: card.training_key})
    run = next((run for run in begun if WEIGHTS not in run.data.tags), None)
    entries = _entries(workspace, variant, card.training_key)
    if run is None:
        tags = {
            KIND: "training",
            "variant": variant,
            "data_digest": card.data_digest,
            TRAINING_KEY: card.training_key,
            MADE_FROM: "outputs",
        }
        start = min((entry.time_ms for entry in entries), default=None)
        run = create_run(
            workspace, store, variant, command=f"train {variant}", tags=tags, start_ms=start
        )
    describe_training(
        workspace,
        store,
        run,
        params=_settings(workspace, params, variant),
        data_digest=card.data_digest,
    )
    keys = {key for entry in entries for key in entry.metrics}
    held = {(key, step) for key, step, _ in rows_of(store, run, keys)}
    log_rows(store, run.info.run_id, entries, held=held)
    end = max((entry.time_ms for entry in entries), default=None)
    end_run(store, run.info.run_id, "FINISHED", weights, end_ms=end)
    return store.client.get_run(run.info.run_id)


def _entries(workspace: Workspace, variant: str, training_key: str) -> list[Entry]:
    """The training's metrics: from its journal, or from ``history.csv``, which has no times."""
    if entries := journal.read(workspace.checkpoints / training_key / "journal.jsonl"):
        return entries
    path = require(workspace.model(variant) / HISTORY)
    time_ms = path.stat().st_mtime_ns // 1_000_000
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [Entry(time_ms, int(row.pop("epoch")), row) for row in rows]


def _settings(workspace: Workspace, params: Params, variant: str) -> dict[str, Any]:
    """What the variant was trained with: by ``dvc.lock``, since ``params.yaml`` may be newer."""
    try:
        lock = yaml.safe_load((workspace.root / "dvc.lock").read_text("utf-8"))
        locked: Mapping[str, Any] = lock["stages"][f"train@{variant}"]["params"]["params.yaml"]
        settings = {**locked["train"], **locked[f"variants.{variant}"]}
        own = settings.get("policy")
        return {**settings, "policy": locked["augment.policy"] if own is None else own}
    except (OSError, LookupError, TypeError, yaml.YAMLError):
        settings = params.variant(variant).model_dump(mode="json")
        return {**settings, "policy": params.policy(variant)[0]}


def _log_evaluation(
    workspace: Workspace, variant: str, store: Store, run: Run, weights: str
) -> None:
    """Log the evaluation of these weights, unless the run has it already."""
    folder, report = workspace.evaluation(variant), workspace.report(variant)
    metrics = folder / "metrics.json"
    if not (metrics.is_file() and report.is_dir()):
        return
    if Predictions.read(folder / "predictions.parquet").weights_sha256 != weights:
        return  # of earlier weights: the stage 'evaluate' is still to come
    digest = _digest(folder, report)
    if run.data.tags.get(EVALUATION) == digest:
        return
    run_id, client = run.info.run_id, store.client
    written_ms = metrics.stat().st_mtime_ns // 1_000_000
    log_metrics(store, run_id, evaluation_metrics(metrics), time_ms=written_ms)
    client.log_artifacts(run_id, str(folder), "evaluation")
    client.log_artifacts(run_id, str(report), "report")
    for name in (CARD, HISTORY):
        client.log_artifact(run_id, str(workspace.model(variant) / name), "training")
    client.set_tag(run_id, EVALUATION, digest)


def _digest(*folders: Path) -> str:
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256_file(path)} {path.name}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
