"""New versions of ``data/``: a source takes its place or joins it, or labels are corrected.

Each is written beside the present version and swapped in whole.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.console import logger
from pipeline.data.ingestion import swap, version
from pipeline.data.ingestion.canonical import METADATA, Batch, build_dataset, read_batch
from pipeline.data.ingestion.merge import OnConflict, add_batch
from pipeline.data.ingestion.present import Present, data_hashes, read_present
from pipeline.data.ingestion.relabel import correct
from pipeline.data.ingestion.replace import replace
from pipeline.data.ingestion.staging import Staging
from pipeline.data.ingestion.summary import Summary
from pipeline.data.sources import Request, read_source, redacted
from pipeline.errors import ConfigurationError, DataRefused, PipelineError
from pipeline.params import IngestParams
from pipeline.workspace import Workspace


def ingest(
    workspace: Workspace,
    params: IngestParams,
    source: str | None = None,
    *,
    add: bool | None = None,
    on_conflict: OnConflict = OnConflict.REFUSE,
    allow_new_classes: bool = False,
) -> None:
    """Make ``source`` the new version of ``data/`` and ``data.dvc``, or add it to them.

    ``source`` is an address of one of `SOURCES`, by default ``params.source``. The rules of
    ``params`` are about ``params.source``: there its ``table``, and the columns that ``label`` and
    ``weight`` name, must exist. Any other source is read by its own ``metadata.csv``; else by
    ``params.table`` where that file exists in it; else as class folders. Its labels and weights are
    its plain columns ``label`` and ``weight``; the rules step in only where such a column is
    missing and the rule's own is there. Which rule was used is logged.

    With ``add``, by default ``params.mode``, the images of ``source`` join those in ``data/`` (see
    `add_batch`, also for ``on_conflict`` and ``allow_new_classes``); else they take their place.

    An equal version changes nothing. A version that ``data.dvc`` does not record is never
    overwritten.

    Raises:
        ConfigurationError: the address, or ``params``, does not fit what is there.
        DataRefused: what is there cannot be used, or ``data/`` has changes nobody recorded.
        Busy: a DVC command is running.
        PipelineError: DVC is missing or failed, or ``data/`` is, which was to be added to.
        OSError: the disk is full. In every case ``data/`` and ``data.dvc`` are as they were.
    """
    version.require_repository(workspace)
    swap.recover(workspace)
    adding = params.mode == "add" if add is None else add
    if not adding and (allow_new_classes or on_conflict is not OnConflict.REFUSE):
        raise ConfigurationError(
            "ingest: --on-conflict and --allow-new-classes are about adding to data/;"
            " give --add too, or leave them out"
        )
    present = _present_to_change(workspace) if adding else read_present(workspace)
    with swap.scratch_folder(workspace) as scratch, swap.incoming_folder(workspace) as incoming:
        batch = read_images(workspace, params, source, scratch)
        hashes = present.hashes if present else {}
        staging = Staging(incoming, data=workspace.data, present=hashes, scratch=scratch)
        if adding and present:
            summary = add_batch(
                present,
                batch,
                staging,
                on_conflict=on_conflict,
                allow_new_classes=allow_new_classes,
            )
        else:
            summary = replace(present, build_dataset(batch), staging)
        _bring_in(workspace, staging, present, summary)


def relabel(
    workspace: Workspace, params: IngestParams, table: Path, *, allow_new_classes: bool = False
) -> None:
    """Make the corrections in ``table`` (`pipeline.data.ingestion.relabel.correct`) a new version.

    Raises:
        ConfigurationError: there is no such file.
        DataRefused: it cannot be used, a class would be left without images, or ``data/`` has
            changes nobody recorded.
        Busy: a DVC command is running.
        PipelineError: DVC is missing or failed, or ``data/`` is missing.
        OSError: the disk is full. In every case ``data/`` and ``data.dvc`` are as they were.
    """
    version.require_repository(workspace)
    swap.recover(workspace)
    present = _present_to_change(workspace)
    if present is None:
        raise PipelineError(
            f"{workspace.data}: there are no labels to correct yet;"
            " run 'python -m pipeline ingest' first"
        )
    with swap.incoming_folder(workspace) as incoming:
        staging = Staging(incoming, data=workspace.data, present=present.hashes, scratch=incoming)
        summary = correct(
            present, table, staging, limits=params.limits, allow_new_classes=allow_new_classes
        )
        _bring_in(workspace, staging, present, summary)


def read_images(
    workspace: Workspace, params: IngestParams, source: str | None, scratch: Path
) -> Batch:
    """List ``source``, by default ``params.source``, and apply the rules; see `ingest`."""
    address = source or params.source
    configured = address == params.source
    request = Request(
        address=address,
        table=params.table,
        configured=configured,
        base=workspace.root,
        shown=address,
        scratch=scratch,
        cache=workspace.state / "downloads",
        limits=params.limits,
    )
    return read_batch(read_source(request), params, configured=configured, shown=redacted(address))


def _present_to_change(workspace: Workspace) -> Present | None:
    """As `read_present`; ``None`` only where there never was a version."""
    present = read_present(workspace)
    if present is None and version.recorded(workspace):
        raise PipelineError(
            f"{workspace.data}: absent, so there is nothing to change;"
            " run 'python -m pipeline data restore' first"
        )
    return present


def _bring_in(
    workspace: Workspace, staging: Staging, present: Present | None, summary: Summary
) -> None:
    """Make what is staged the version in ``data/``, and say what came of it."""
    _check_readable(staging.folder, summary.source)
    new, old = version.digest(staging.hashes), present.digest if present else None
    if new != old:
        if present and version.digest(data_hashes(workspace)) != old:
            raise DataRefused(
                f"{workspace.data}: was changed while the new version was being made, so it stays"
                " as it is; settle the change, and try again"
            )
        logger.info("storing the version in DVC's cache")
        # DVC takes a second hard link, which the old version still is, for a reason to copy.
        relink = staging.linked_to_cache or not staging.shared
        swap.install(workspace, staging.folder, new=new, old=old, relink=relink)
    summary.tell(workspace, new=new, old=old)


def _check_readable(folder: Path, source: str) -> None:
    """What scan would refuse of the table is refused before it takes a good version's place."""
    from pipeline.data.scanning.listing import read_listing  # a second of imports

    path = folder / METADATA
    try:
        read_listing(path)
    except DataRefused as error:
        raise DataRefused(str(error).replace(str(path), source)) from error
