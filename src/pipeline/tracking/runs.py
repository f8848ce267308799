"""Runs of variants: found by what they hold, made, and given each row once."""

from __future__ import annotations

import getpass
import json
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pipeline.artifacts import read_json
from pipeline.journal import Entry
from pipeline.tracking.identity import consumed, data_md5, flatten, packed_card, params_sha256
from pipeline.tracking.store import Store
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities import Run

PARENT_RUN = "PIPELINE_PARENT_RUN"
"""Environment variable: the id of the flow's run that trainings become children of."""
TRAINING_KEY = "training_key"
"""Tag: the hash of all that shapes a training's result."""
WEIGHTS = "weights_sha256"
"""Tag: the hash of the weights that a run ended with."""
PARENT = "mlflow.parentRunId"
KIND = "kind"

ROWS_PER_BATCH = 500  # MLflow takes 1,000 and a megabyte
PARAMS_PER_BATCH = 100
DIGEST_LENGTH = 36  # of a data set, in MLflow's table

Status = Literal["FINISHED", "FAILED", "KILLED"]
T = TypeVar("T")


def find_runs(store: Store, tags: Mapping[str, str]) -> list[Run]:
    """The experiment's runs that carry all of ``tags``, newest first; deleted ones do not count."""
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    found = store.client.search_runs(
        [store.experiment_id], wanted, max_results=50, order_by=["attributes.start_time DESC"]
    )
    return list(found)


def create_run(
    workspace: Workspace,
    store: Store,
    name: str,
    *,
    command: str,
    tags: Mapping[str, str],
    start_ms: int | None = None,
) -> Run:
    """Make a running run with ``tags`` and those for the code, data and split as they are now.

    It becomes a child of the run in the environment variable `PARENT_RUN`.
    """
    system = {
        "mlflow.source.name": f"python -m pipeline {command}",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
    }
    if parent := os.environ.get(PARENT_RUN):
        system[PARENT] = parent
    return store.client.create_run(
        store.experiment_id,
        start_time=now_ms() if start_ms is None else start_ms,
        tags={**system, **consumed(workspace), **tags},
        run_name=name,
    )


def take_in(store: Store, run: Run) -> None:
    """Let a run that had ended go on, as a child of the flow that runs now."""
    store.client.update_run(run.info.run_id, status="RUNNING")
    if parent := os.environ.get(PARENT_RUN):
        store.client.set_tag(run.info.run_id, PARENT, parent)


def end_run(
    store: Store,
    run_id: str,
    status: Status,
    weights_sha256: str | None,
    *,
    end_ms: int | None = None,
) -> None:
    """End a run; its weights are named before, so that a finished training is always found."""
    if weights_sha256 is not None:
        store.client.set_tag(run_id, WEIGHTS, weights_sha256)
    store.client.set_terminated(run_id, status, end_ms)


def describe_training(
    workspace: Workspace, store: Store, run: Run, *, params: Mapping[str, Any], data_digest: str
) -> None:
    """Log the settings and the data of a training; a second time changes nothing."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    flat = flatten(params)
    missing = [Param(key, value) for key, value in flat.items() if key not in run.data.params]
    for batch in _batches(missing, PARAMS_PER_BATCH):
        store.client.log_batch(run.info.run_id, params=batch)
    store.client.set_tag(run.info.run_id, "params_sha256", params_sha256(flat))
    if run.inputs and run.inputs.dataset_inputs:
        return
    card = packed_card(workspace, data_digest) or {}
    profile = {k: card[k] for k in ("images", "classes", "image_size", "channels") if k in card}
    source = {"path": "data.dvc", "md5": data_md5(workspace)}
    dataset = Dataset(
        name="packed images",
        digest=data_digest[:DIGEST_LENGTH],
        source_type="dvc",
        source=json.dumps(source),
        profile=json.dumps(profile),
    )
    context = [InputTag("mlflow.data.context", "training")]
    store.client.log_inputs(run.info.run_id, [DatasetInput(dataset, context)])


def rows_of(store: Store, run: Run, keys: Iterable[str]) -> set[tuple[str, int, int]]:
    """What ``run`` holds of the metrics ``keys``, as (key, step, time in ms)."""
    return {
        (row.key, row.step, row.timestamp)
        for key in sorted(set(keys) & set(run.data.metrics))
        for row in store.client.get_metric_history(run.info.run_id, key)
    }


def log_rows(
    store: Store, run_id: str, entries: Iterable[Entry], *, held: set[tuple[str, int]]
) -> None:
    """Log those metrics of ``entries`` whose (key, step) is not in ``held``, and add them there."""
    from mlflow.entities import Metric

    new = [
        Metric(key, value, entry.time_ms, entry.step)
        for entry in entries
        for key, value in entry.metrics.items()
        if (key, entry.step) not in held
    ]
    for batch in _batches(new, ROWS_PER_BATCH):
        store.client.log_batch(run_id, metrics=batch)
        held.update((row.key, row.step) for row in batch)


def log_metrics(
    store: Store, run_id: str, metrics: Mapping[str, float], *, time_ms: int | None = None
) -> None:
    """Log single values, all at step 0."""
    time_ms = now_ms() if time_ms is None else time_ms
    log_rows(store, run_id, [Entry(time_ms, 0, metrics)], held=set())


def evaluation_metrics(path: Path) -> dict[str, float]:
    """``metrics.json`` as MLflow's metrics, each with ``_low`` and ``_high``.

    ``test_…`` are of the test images. Those of the validation images are called ``best_val_…``:
    they are of the weights after the best epoch, while ``val_…`` is the curve over all epochs.
    Characters of a class that MLflow does not take become ``_``, see `_class_names`.
    """
    measured = read_json(path)
    flat: dict[str, float | None] = {}
    for split, prefix in (("val", "best_val"), ("test", "test")):
        metrics = {**measured.get(split, {}), **measured.get("calibration", {}).get(split, {})}
        for name, interval in metrics.items():
            flat |= _interval(f"{prefix}_{name}", interval)
        by_class = measured.get("per_class", {}).get(split, {})
        names = _class_names(by_class)
        for label, found in by_class.items():
            for name in ("precision", "recall"):
                flat |= _interval(f"{prefix}_{name}_{names[label]}", found[name])
    return {k: v for k, v in flat.items() if v is not None and math.isfinite(v)}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _class_names(labels: Iterable[str]) -> dict[str, str]:
    """Each class by a name for MLflow; those that would be one are numbered from the second on."""
    plain = {label: re.sub(r"[^\w.\- ]", "_", label) for label in labels}
    names, taken = dict[str, str](), set[str]()
    for label in sorted(plain, key=lambda label: plain[label] != label):  # whole names stay
        name, number = plain[label], 1
        while not taken.isdisjoint({name, f"{name}_low", f"{name}_high"}):
            number += 1
            name = f"{plain[label]}_{number}"
        names[label] = name
        taken |= {name, f"{name}_low", f"{name}_high"}
    return names


def _interval(key: str, interval: Mapping[str, float | None]) -> dict[str, float | None]:
    return {
        key: interval["value"],
        f"{key}_low": interval.get("low"),
        f"{key}_high": interval.get("high"),
    }


def _batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())
