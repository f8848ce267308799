"""The parent run of a flow: what all variants of one `make run` have in common."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from pipeline.artifacts import read_json
from pipeline.tracking.identity import consumed
from pipeline.tracking.runs import KIND, Status, evaluation_metrics, log_metrics
from pipeline.tracking.store import Store, answering, open_store
from pipeline.workspace import Workspace

NOTE = "mlflow.note.content"
"""The tag whose markdown MLflow's page shows as a run's description."""
TRAINING_VIEW = "?workflowType=machine_learning"
"""What has MLflow's page show trainings, where it would show chats with language models."""
VARIANT_TAG = "variant.{name}.{what}"
"""Tags of a parent that link its variants: ``run_id`` and ``origin``; `release.sync` sets them."""


def start_parent(workspace: Workspace, name: str) -> str:
    """Make a flow's run, called ``name``, and return its id.

    Trainings that find it in the environment variable `PARENT_RUN` become its children.

    Raises:
        StoreAway: the store does not answer.
    """
    store = open_store(workspace)
    with answering(store.uri):
        run = store.client.create_run(
            store.experiment_id,
            tags={KIND: "flow", "mlflow.source.name": "flows", **consumed(workspace)},
            run_name=name,
        )
    return str(run.info.run_id)


def finish_parent(workspace: Workspace, run_id: str, *, status: Status) -> None:
    """End a flow's run.

    It gets the files that bring it back (``params.yaml``, ``dvc.lock``, ``data.dvc``). Where it
    ``FINISHED`` it also gets the leaderboard, the picture of the augmentation, the winner's metrics
    and a description that links the variants' runs.

    Raises:
        StoreAway: the store does not answer.
    """
    store = open_store(workspace)
    with answering(store.uri):
        inputs = [workspace.params, workspace.root / "dvc.lock", workspace.data_dvc]
        for path in _existing(inputs):
            store.client.log_artifact(run_id, str(path), "inputs")
        if status == "FINISHED":
            for path in _existing([workspace.leaderboard, workspace.preview]):
                store.client.log_artifact(run_id, str(path))
            _log_winner(workspace, store, run_id)
            tags = store.client.get_run(run_id).data.tags
            store.client.set_tag(run_id, NOTE, _note(workspace, tags, store.experiment_id))
        store.client.set_terminated(run_id, status)


def _log_winner(workspace: Workspace, store: Store, run_id: str) -> None:
    if not workspace.selection.is_file():
        return
    winner = read_json(workspace.selection)["challenger"]
    store.client.set_tag(run_id, "winner", winner)
    metrics = workspace.evaluation(winner) / "metrics.json"
    if metrics.is_file():
        log_metrics(store, run_id, evaluation_metrics(metrics))


def _note(workspace: Workspace, tags: Mapping[str, str], experiment_id: str) -> str:
    lines = ["| variant | run | trained | rank |", "|---|---|---|---|"]
    ranks = _ranks(workspace.leaderboard)
    for variant, run_id in linked_variants(tags).items():
        link = f"[{run_id[:8]}](#/experiments/{experiment_id}/runs/{run_id}{TRAINING_VIEW})"
        origin = tags.get(VARIANT_TAG.format(name=variant, what="origin"), "")
        lines.append(f"| {variant} | {link} | {origin} | {ranks.get(variant, '')} |")
    text = "\n".join(lines)
    if winner := tags.get("winner"):
        text = f"The challenger is **{winner}**; this run's metrics are its own.\n\n{text}"
    return (
        f"{text}\n\nBring this run back: check out the commit in `git_commit`, put the files of"
        " `inputs/` into the top folder, then `dvc checkout` or `dvc repro`."
    )


def linked_variants(tags: Mapping[str, str]) -> dict[str, str]:
    """Variant → run id, from the tags of a parent, in the order of the names."""
    prefix, suffix = VARIANT_TAG.format(name=" ", what="run_id").split(" ")
    return {
        tag.removeprefix(prefix).removesuffix(suffix): run_id
        for tag, run_id in sorted(tags.items())
        if tag.startswith(prefix) and tag.endswith(suffix)
    }


def _ranks(leaderboard: Path) -> dict[str, str]:
    if not leaderboard.is_file():
        return {}
    with leaderboard.open(encoding="utf-8", newline="") as file:
        return {row["variant"]: row.get("rank", "") for row in csv.DictReader(file)}


def _existing(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.is_file()]
