"""``data/`` as ``data.dvc`` records it: brought back where absent, judged where it is there."""

from __future__ import annotations

import json
import shutil

from pipeline.console import logger
from pipeline.data.ingestion import dvc_locks, swap, version
from pipeline.data.ingestion.canonical import METADATA, build_dataset
from pipeline.data.ingestion.ingest import ingest, read_images
from pipeline.data.ingestion.present import data_hashes
from pipeline.data.ingestion.replace import write_dataset
from pipeline.data.ingestion.staging import Staging
from pipeline.data.sources import redacted
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
    dvc_locks.mend(workspace.root)
    swap.recover(workspace)
    recorded = version.recorded(workspace)
    if recorded is None:
        if workspace.data.exists():
            raise DataRefused(
                f"{workspace.data}: there is no data.dvc that records it; make it the first version"
                f" by '{version.ACCEPT}', or move it away"
            )
        logger.info("no data.dvc yet: ingesting %s", redacted(params.source))
        ingest(workspace, params, add=False)
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
    from pipeline.data.scanning.listing import read_listing

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
    if version.digest(data_hashes(workspace)) == recorded:
        if version.is_cached(workspace, recorded):
            logger.info("data/ is the version in data.dvc (%s)", recorded)
        else:
            version.record(workspace, recorded)
            logger.info(
                "data/ is the version in data.dvc (%s); stored in DVC's cache anew", recorded
            )
        return
    done = version.run_dvc(workspace, "status", "data.dvc", "--json")
    if done.returncode:
        raise PipelineError(f"'dvc status data.dvc' failed: {version.words_of(done)}")
    if not json.loads(done.stdout or "{}"):  # .dvcignore leaves some files out
        logger.info("data/ is the version in data.dvc (%s)", recorded)
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
    source = redacted(params.source)
    logger.info("neither DVC's cache nor a remote has data/: building it from %s", source)
    with swap.scratch_folder(workspace) as scratch, swap.incoming_folder(workspace) as incoming:
        try:
            dataset = build_dataset(read_images(workspace, params, None, scratch))
        except PipelineError as error:
            raise type(error)(
                "data/ is absent, neither DVC's cache nor a remote has it, and its source cannot be"
                f" read:\n{error}\n{_ELSEWHERE}"
            ) from error
        staging = Staging(incoming, data=workspace.data, present={}, scratch=scratch)
        write_dataset(dataset, staging)
        built = version.digest(staging.hashes)
        if built != recorded:
            raise DataRefused(
                f"{source}: gives the version {built}, but data.dvc records {recorded};"
                " nothing was changed\n"
                "  is the source another release, or were the rules under ingest in params.yaml"
                " edited? put that right\n"
                "  was a batch added, or were labels corrected? then no source gives that version."
                f" {_ELSEWHERE}\n"
                "  or make what the source gives the new version: python -m pipeline ingest"
                " --replace"
            )
        swap.install(workspace, incoming, new=built, old=None)
    logger.info(
        "data/ is the version in data.dvc (%s): %s images", recorded, f"{len(dataset.images):,}"
    )


_ELSEWHERE = (
    "Where it was made, run 'dvc push' to a remote that this checkout has too, and 'dvc pull'"
    " here; or copy that machine's .dvc/cache here"
)
