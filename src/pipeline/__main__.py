"""The command line: ``python -m pipeline COMMAND``.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 data refused, 75 busy (another run
holds the workspace).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import typer

from pipeline.artifacts import write_text
from pipeline.commands import data, release, settings, stages
from pipeline.console import logger, set_up_logging
from pipeline.errors import FAILURE_FILE, PipelineError, of_the_system
from pipeline.parent import end_with_parent

_INTERRUPTED = 128 + signal.SIGINT

app = typer.Typer(
    help="From a folder of labelled photographs to a registered CNN. The stages below are run by "
    "'dvc repro' and by the flows; each can also be run alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for topic in (data, stages, release, settings):
    app.add_typer(topic.app)


def main() -> None:
    """Run the command line, turning errors a user can cause into a message and an exit code."""
    end_with_parent()
    set_up_logging(verbose=bool(os.environ.get("PIPELINE_VERBOSE")))
    # PyTorch's threads wait for each other by spinning. Where another process wants a core, the
    # usual 300,000 turns slow a training many times over; fewer cost a tenth on an idle one.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    try:
        app(standalone_mode=True)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            logger.error("interrupted; started again, it goes on from what is saved")
        raise
    except PipelineError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        if (known := of_the_system(error)) is None:
            raise
        _fail(str(known), known.exit_code)


def _fail(message: str, exit_code: int) -> None:
    logger.error("%s", message)
    if path := os.environ.get(FAILURE_FILE):
        write_text(Path(path), json.dumps({"exit_code": exit_code, "message": message}))
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
