"""The flow ``ingest``: a source becomes the new version of the data, or joins it.

``python -m flows.ingest [SOURCE]`` runs it; the source is by default ``ingest.source`` of
params.yaml. Exit codes: see `flows.command`.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Before Prefect is imported, which takes seconds: a busy workspace is told so at once.
    from flows.command import main, run_flow, source_argument

    sys.exit(main(lambda: run_flow("ingest", source_argument()), arguments=True))

from prefect import flow

from flows.command import only_run
from flows.processes import CHILDREN
from flows.stage import run_command


@flow(name="ingest", persist_result=False)
def ingest(source: str | None = None) -> None:
    """Make ``source`` the new version of ``data/`` and ``data.dvc``, or add it to the present one,
    as ``ingest.mode`` of params.yaml says.

    A batch that is to be added and has images of ``data/`` under another label, or new classes, is
    refused: a person decides that by the options of ``python -m pipeline ingest``.

    Args:
        source: a folder of class folders, a folder with metadata.csv, or package:NAME/FOLDER;
            None: ``ingest.source`` of params.yaml.

    Raises:
        Busy: another run holds the workspace.
        StageFailed: the source cannot be used.
    """
    with only_run("ingest") as (workspace, params), CHILDREN.ended_on_exit():
        arguments = ["--", source] if source else []
        command = run_command.with_options(retries=params.flow.stage_retries)
        command.submit(workspace.root, "ingest", arguments, params.flow.stage_timeout, {}).result()
