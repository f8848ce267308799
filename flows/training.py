"""The flow ``training``: from data to a registered champion. ``python -m flows.training`` runs it.

A task per DVC stage; what depends on what is DVC's knowledge, and a stage that is up to date costs
a second. Exit codes: see `flows.command`.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Before Prefect is imported, which takes seconds: a busy workspace is told so at once.
    from flows.command import main, run_flow

    sys.exit(main(lambda: run_flow("training")))

import contextlib
from collections.abc import Iterator
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait

from flows import leaderboard, variants
from flows.command import only_run
from flows.execution import Outcome, StageFailed
from flows.processes import CHILDREN
from flows.stage import run_command, run_stage
from pipeline import tracking
from pipeline.console import logger
from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.tracking.store import first_line
from pipeline.workspace import Workspace

BEFORE_TRAINING = ("scan", "validate", "split", "augment")
OF_A_VARIANT = ("train", "evaluate", "index")


@flow(name="training", persist_result=False)
def training() -> None:
    """Data, checks, training of every variant, evaluation, comparison, registration.

    Raises:
        Busy: another run holds the workspace.
        StageFailed: a stage failed; a variant that fails does not stop the others, but nothing is
            compared or registered then.
    """
    with only_run("training") as (workspace, params):
        run = _Run(workspace, params)
        with CHILDREN.ended_on_exit():
            run.prepare()
        parent = start_mlflow_run.submit(workspace)  # takes seconds, beside the first stages
        with _recorded(workspace, parent), CHILDREN.ended_on_exit():
            for stage in BEFORE_TRAINING:
                run.stage(stage)
            run.note_parent(parent.result())
            run.variants()
            run.stage("compare")
            verdict = run.command("register").last_line  # which begins with `sync`
        board = leaderboard.read(workspace, params, verdict)
        create_markdown_artifact(
            key="leaderboard",
            markdown=leaderboard.markdown(board),
            description="The variants, the verdict of the gate, and where the reports lie",
        )
        leaderboard.show(board)


class _Run:
    """The tasks of one run of the flow."""

    def __init__(self, workspace: Workspace, params: Params) -> None:
        self._workspace, self._params = workspace, params
        self._environment: dict[str, str] = {}
        retries = params.flow.stage_retries
        self._run_stage = run_stage.with_options(retries=retries)
        self._run_command = run_command.with_options(retries=retries)

    def note_parent(self, run_id: str | None) -> None:
        """Later stages put their MLflow runs below ``run_id``."""
        if run_id is not None:
            self._environment[tracking.PARENT_RUN] = run_id

    def prepare(self) -> None:
        """Check the names of networks and augmentations, and bring the data; both at once."""
        check = self._run_command.submit(*self._command("params"))
        restore = self._run_command.submit(*self._command("data restore"))
        wait([check, restore])
        check.result()
        restore.result()

    def stage(self, name: str) -> None:
        self._run_stage.submit(*self._stage(name, self._environment)).result()

    def command(self, name: str) -> Outcome:
        return self._run_command.submit(*self._command(name)).result()

    def variants(self) -> None:
        """Train, evaluate and index every variant, side by side as far as there is room.

        Raises:
            StageFailed: of some variants a stage failed; the others are done.
        """

        def submit(stage: str, slot: variants.Slot) -> PrefectFuture[Any]:
            return self._run_stage.submit(*self._stage(stage, self._environment | slot))

        chains = [
            tuple(f"{stage}@{name}" for stage in OF_A_VARIANT) for name in self._params.variants
        ]
        failures = variants.run_chains(chains, variants.slots(self._params), submit)
        if len(failures) == 1:
            raise failures[0]
        if failures:
            codes = {failure.exit_code for failure in failures}
            raise StageFailed(
                f"{len(failures)} of {len(chains)} variants",
                codes.pop() if len(codes) == 1 else 1,
                "failed\n" + "\n".join(str(failure) for failure in failures),
            )

    def _stage(self, name: str, environment: dict[str, str]) -> tuple[Any, ...]:
        return self._workspace.root, name, self._params.flow.stage_timeout, environment

    def _command(self, name: str) -> tuple[Any, ...]:
        return self._workspace.root, name, [], self._params.flow.stage_timeout, self._environment


@task(name="mlflow run", task_run_name="mlflow run", cache_policy=NO_CACHE, persist_result=False)
def start_mlflow_run(workspace: Workspace) -> str | None:
    """The parent run of what is trained, or None where there is no MLflow to hold it."""
    if not tracking.available():
        return None
    try:
        return tracking.start_parent(workspace, "training")
    except Exception as error:  # noqa: BLE001 (no fault of MLflow's may end a flow)
        logger.warning("%s; this run of the flow has none in MLflow", _said(error))
        return None


@contextlib.contextmanager
def _recorded(workspace: Workspace, parent: PrefectFuture[str | None]) -> Iterator[None]:
    """End the parent run as the body ends."""
    status: Any = "KILLED"
    try:
        yield
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        try:
            run_id = parent.result()
            if run_id is not None:
                tracking.finish_parent(workspace, run_id, status=status)
        except Exception as error:  # noqa: BLE001 (nor may it hide what ended the body)
            logger.warning("%s; the flow's run in MLflow stays open", _said(error))


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, PipelineError) else f"MLflow: {first_line(error)}"
