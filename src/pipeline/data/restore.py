"""``data/`` as ``data.dvc`` records it: brought back where absent, judged where it is there."""

from __future__ import annotations

import json
import shutil

from pipeline.console import logger
from pipeline.data import swap, version
from pipeline.data.canonical import METADATA
from pipeline.data.ingest import ingest, read_dataset, write_dataset
from pipeline.errors import DataRefused, PipelineError
from pipeline.params import IngestParams
from pipeline.workspace import Workspace


def restore(workspace: Workspace, params: IngestParams) -> None:
    """Make ``data/`` the version in ``data.dvc``, without ever changing ``data.dvc``.

    Absent, it comes from DVC's cache or remote, else it is built anew from ``params.source`` and
    used only if its hash is the recorded one. Without a ``data.dvc`` the source is ingested, which
    writes one.

    Raises:
        DataRefused: ``data/`` is another version, or the source gives another one.
        ConfigurationError: ``params.source`` cannot be read.
        Busy: a DVC command is running.
        PipelineError: DVC is missing or failed, or its cache is damaged.
    """
    version.require_repository(workspace)
    swap.recover(workspace)
    recorded = version.recorded(workspace)
    if recorded is None:
        if workspace.data.exists():
            raise DataRefused(
                f"{workspace.data}: there is no data.dvc that records it; make it the first version"
                f" by '{version.ACCEPT}', or move it away"
            )
        logger.info("no data.dvc yet: ingesting %s", params.source)
        ingest(workspace, params)
    elif workspace.data.exists():
        _judge(workspace, recorded)
    elif not _from_dvc(workspace, recorded):
        _rebuild(workspace, params, recorded)


def accept(workspace: Workspace) -> None:
    """Record ``data/`` as it is now, edits by hand included, as the new version.

    Raises:
        DataRefused: it is not in the canonical layout.
        Busy: a DVC command is running.
        PipelineError: ``data/`` is missing, or DVC is missing or failed.
    """
    from pipeline.data.listing import read_listing

    version.require_repository(workspace)
    swap.recover(workspace)
    listed = read_listing(workspace.metadata).num_rows
    if not workspace.classes.is_file():
        raise DataRefused(
            f'{workspace.classes}: missing; it holds {{"classes": ["name", …]}} in a fixed order'
        )
    before = version.recorded(workspace)
    after = version.record(workspace)
    if after == before:
        logger.info("nothing changed: data.dvc records this version already (%s)", after)
        return
    logger.info(
        "accepted: data/ with %s rows in %s is the version %s", f"{listed:,}", METADATA, after
    )
    logger.info("written: data.dvc; next: commit it, then 'make run' or 'dvc repro'")


def _judge(workspace: Workspace, recorded: str) -> None:
    done = version.run_dvc(workspace, "status", "data.dvc", "--json")
    if done.returncode:
        raise PipelineError(f"'dvc status data.dvc' failed: {version.words_of(done)}")
    changes = json.loads(done.stdout or "{}")
    if not changes:
        logger.info("data/ is the version in data.dvc (%s)", recorded)
        return
    # "not in cache" hides whether the folder itself is as recorded, so that is asked of the files.
    if "not in cache" in done.stdout and version.folder_md5(workspace.data) == recorded:
        version.record(workspace, recorded)
        logger.info("data/ is the version in data.dvc (%s); stored in DVC's cache anew", recorded)
        return
    raise DataRefused(
        f"{workspace.data}: not the version in data.dvc ({recorded})\n"
        f"  keep it as a new version: {version.ACCEPT}\n"
        f"  or get the recorded one back: {version.BRING_BACK}\n"
        "  what differs: dvc data status --granular"
    )


def _from_dvc(workspace: Workspace, recorded: str) -> bool:
    """Bring ``data/`` from the cache or the remote; ``False`` where neither has all of it."""
    with swap.filling(workspace, recorded):
        done = version.run_dvc(workspace, "pull", "data.dvc")
        if done.returncode:
            if "No remote provided" not in done.stderr:
                logger.warning("DVC's remote gave no data: %s", version.words_of(done))
            shutil.rmtree(workspace.data, ignore_errors=True)
            return False
        present = version.folder_md5(workspace.data)
        if present != recorded:
            raise PipelineError(
                f"DVC gave data/ with the hash {present}, but data.dvc says {recorded}: files in"
                " its cache are damaged; delete them (.dvc/cache) and run this again"
            )
    logger.info("data/ is the version in data.dvc (%s), brought by DVC", recorded)
    return True


def _rebuild(workspace: Workspace, params: IngestParams, recorded: str) -> None:
    logger.info("neither DVC's cache nor a remote has data/: building it from %s", params.source)
    try:
        dataset = read_dataset(workspace, params, None)
    except PipelineError as error:
        raise type(error)(
            "data/ is absent, neither DVC's cache nor a remote has it, and its source cannot be"
            f" read:\n{error}"
        ) from error
    with swap.incoming_folder(workspace) as incoming:
        built = version.digest(write_dataset(dataset, incoming))
        if built != recorded:
            raise DataRefused(
                f"{params.source}: gives the version {built}, but data.dvc records {recorded};"
                " nothing was changed\n"
                "  is the source another release, or were the rules under ingest in params.yaml"
                " edited? put that right\n"
                "  or make it the new version: python -m pipeline ingest"
            )
        swap.install(workspace, incoming, new=built, old=None)
    logger.info(
        "data/ is the version in data.dvc (%s): %s images", recorded, f"{len(dataset.images):,}"
    )
