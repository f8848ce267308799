"""What the commands of this folder share: ``python -m flows.NAME``.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 data refused, 75 busy (another run
holds the workspace), 130 interrupted, 143 terminated. One message for what a user can put right;
a traceback is a defect of the pipeline.
"""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from flows import server, settings
from pipeline.console import logger, set_up_logging
from pipeline.errors import ConfigurationError, PipelineError, of_the_system
from pipeline.params import Params, load
from pipeline.workspace import Workspace


def open_project() -> tuple[Workspace, Params]:
    """This project's workspace and settings.

    Raises:
        ConfigurationError: ``params.yaml`` cannot be used.
    """
    workspace = Workspace(settings.ROOT)
    return workspace, load(workspace.params)


def main(body: Callable[[], None], *, arguments: bool = False) -> int:
    """Run ``body`` and return the process's exit code.

    Without ``arguments`` the command has none: a stray ``--help`` must not start a training.
    SIGTERM ends ``body`` by ``SystemExit``, so that it can clean up.
    """
    set_up_logging()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        if sys.argv[1:] and not arguments:
            name = Path(sys.argv[0]).stem
            raise ConfigurationError(
                f"usage: python -m flows.{name}, without arguments; its settings are in params.yaml"
            )
        body()
    except PipelineError as error:
        logger.error("%s", error)
        return error.exit_code
    except OSError as error:
        if (known := of_the_system(error)) is None:
            raise
        logger.error("%s", known)
        return known.exit_code
    except KeyboardInterrupt:
        logger.error("interrupted; what was running has been ended. Start again to go on from here")
        return 130
    return 0


def _terminate(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def run_flow(name: str, *arguments: object) -> None:
    """Run the flow ``name`` of the module of that name, as the only run in the workspace.

    The lock comes first, then the server, then Prefect: a second run is told at once.
    """
    workspace, params = open_project()
    log = workspace.state / "logs" / "prefect-temporary.log"
    with (
        workspace.hold(f"the flow '{name}'"),
        server.connected(params.flow.ports.prefect, log, workspace.root),
    ):
        getattr(importlib.import_module(f"flows.{name}"), name)(*arguments)


@contextlib.contextmanager
def only_run(name: str) -> Iterator[tuple[Workspace, Params]]:
    """For a flow's body: nothing else changes the workspace meanwhile.

    Raises:
        Busy: another run holds the workspace.
    """
    if not logger.handlers:  # a run that was started from Prefect's page
        set_up_logging()
    workspace, params = open_project()
    with workspace.hold(f"the flow '{name}'"):
        yield workspace, params


def source_argument() -> str | None:
    """The one argument of ``python -m flows.ingest``, a path made absolute; None without.

    Raises:
        ConfigurationError: there are more arguments, or options.
    """
    arguments = sys.argv[1:]
    if not arguments:
        return None
    source = arguments[0]
    if len(arguments) > 1 or source.startswith("-"):
        raise ConfigurationError("usage: python -m flows.ingest [SOURCE]")
    return str(Path(source).resolve()) if Path(source).exists() else source
