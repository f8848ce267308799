"""Serves the flows ``ingest`` and ``training`` to Prefect's page: ``python -m flows.deploy``.

Runs come from the page or from ``flow.schedules`` of params.yaml, one at a time: others wait. A run
that finds the workspace held from elsewhere, say by ``make run``, fails with a word about it.
Exit codes: see `flows.command`; Ctrl-C is the usual end, 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING

import psutil

from flows import server, settings
from flows.command import main, open_project
from pipeline.console import logger
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.params import FlowParams

if TYPE_CHECKING:
    from prefect.runner import Runner
    from prefect.schedules import Schedule

NAME = "default"
"""Of both deployments: ``ingest/default`` and ``training/default``."""


def deploy() -> None:
    """Serve both flows until Ctrl-C.

    Raises:
        PipelineError: no server of this project runs.
        ConfigurationError: a schedule or the time zone cannot be used.
    """
    _, params = open_project()
    port = params.flow.ports.prefect
    page = f"http://{settings.HOST}:{port}"
    if not server.is_ours(port):
        raise PipelineError(
            f"no Prefect server of this project answers on {page};"
            " start it with 'make ui' and leave that running, then try again"
        )
    settings.apply(port)
    from prefect.flows import EntrypointType
    from prefect.runner import Runner

    from flows.ingest import ingest
    from flows.training import training

    runner = Runner(name=NAME, limit=1, pause_on_shutdown=False)
    deployments = [
        flow.to_deployment(
            NAME,
            schedules=_schedules(params.flow, flow.name),
            entrypoint_type=EntrypointType.MODULE_PATH,  # found from every folder
        )
        for flow in (ingest, training)
    ]
    for deployment in deployments:
        runner.add_deployment(deployment)
    logger.info(
        "serving %s; start a run on %s/deployments. Ctrl-C ends this",
        " and ".join(f"{each.flow_name}/{NAME}" for each in deployments),
        page,
    )
    asyncio.run(_serve(runner))
    logger.info("no longer serving")


async def _serve(runner: Runner) -> None:
    """Run ``runner`` until SIGINT or SIGTERM; a run that is going on is ended with it.

    Prefect's own handling kills the process of such a run, which then stays "Running" for ever.
    """
    received: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def note(number: int) -> None:
        if not received.done():
            received.set_result(number)

    serving = asyncio.ensure_future(runner.start())
    await asyncio.sleep(0)  # the runner sets a handler of its own when it starts
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, note, number)
    await asyncio.wait([serving, received], return_when=asyncio.FIRST_COMPLETED)
    if received.done():
        await asyncio.to_thread(_end_runs, received.result())
        serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _end_runs(number: int) -> None:
    """End the processes of runs: Ctrl-C has reached them too, so they get time to act on it."""
    runs = psutil.Process().children()
    _, left = psutil.wait_procs(runs, timeout=_PATIENCE if number == signal.SIGINT else 0)
    for run in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            run.terminate()
    psutil.wait_procs(left, timeout=_PATIENCE)


_PATIENCE = 30.0
"""Seconds that a run has for ending what it started and saying so."""


def _schedules(flow: FlowParams, name: str) -> list[Schedule]:
    """The cron line of ``flow.schedules.NAME``; none where it is null.

    Raises:
        ConfigurationError: it is no cron line, or the time zone is unknown.
    """
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.schedules import Cron

    cron = getattr(flow.schedules, name)
    if cron is None:
        return []
    try:
        CronSchedule(cron="0 0 * * *", timezone=flow.timezone)
    except ValueError:
        raise ConfigurationError(
            f"params.yaml: flow.timezone: '{flow.timezone}' is no time zone;"
            " expected a name such as UTC or Europe/Berlin"
        ) from None
    try:
        CronSchedule(cron=cron, timezone=flow.timezone)
    except ValueError:
        raise ConfigurationError(
            f"params.yaml: flow.schedules.{name}: '{cron}' is no cron line;"
            ' expected five fields such as "0 3 * * *", or null'
        ) from None
    return [Cron(cron, timezone=flow.timezone)]


if __name__ == "__main__":
    sys.exit(main(deploy))
