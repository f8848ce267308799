"""Prefect tasks, each of which runs one DVC stage or one command of the pipeline.

A task adds to the stage what DVC has not: its lines in the run's log as they come, a time-out,
retries where a retry can help, and an end of all its processes with the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, State

from flows.execution import Emit, Outcome, StageFailed, call, reproduce
from pipeline.console import logger

RETRY_DELAY = 3.0
"""Seconds before a stage that failed for a passing reason is tried again."""


def retry_can_help(_task: Any, _run: Any, state: State[Any]) -> bool:
    """For ``retry_condition_fn``: whether the failure in ``state`` was a passing one."""
    error = state.data
    if not (isinstance(error, StageFailed) and error.passing):
        return False
    logger.warning("%s; trying again in %.0f s", error, RETRY_DELAY)
    return True


def _emitter(stage: str) -> Emit:
    """Lines go to the task run's log, and once to the terminal."""
    run_logger = get_run_logger()

    def emit(line: str) -> None:
        run_logger.info("%s", line)
        logger.info("%s │ %s", stage, line)

    return emit


_OPTIONS: dict[str, Any] = {
    "cache_policy": NO_CACHE,  # DVC has the cache
    "persist_result": False,
    "retry_condition_fn": retry_can_help,
    "retry_delay_seconds": RETRY_DELAY,
}


@task(name="stage", task_run_name="{stage}", **_OPTIONS)
def run_stage(
    root: Path, stage: str, timeout: float, environment: dict[str, str]
) -> State[Outcome]:
    """The DVC stage ``stage``, as `reproduce`. The state is named for what DVC did."""
    outcome = reproduce(root, stage, timeout=timeout, emit=_emitter(stage), environment=environment)
    if outcome.way == "unchanged":
        return Completed(data=outcome, name="Unchanged", message="DVC found nothing to do")
    if outcome.way == "cached":
        return Completed(data=outcome, name="Cached", message="DVC had the outputs in its cache")
    return Completed(data=outcome, message=f"ran for {outcome.seconds:.1f} s")


@task(name="command", task_run_name="{name}", **_OPTIONS)
def run_command(
    root: Path, name: str, arguments: list[str], timeout: float, environment: dict[str, str]
) -> State[Outcome]:
    """``python -m pipeline NAME ARGUMENTS…``, as `call`; ``name`` may be of two words."""
    outcome = call(
        root,
        [*name.split(), *arguments],
        name=name,
        timeout=timeout,
        emit=_emitter(name),
        environment=environment,
    )
    return Completed(data=outcome, message=f"ran for {outcome.seconds:.1f} s")
