"""Any source becomes the new version of ``data/``: read, written beside it, swapped in whole."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.console import logger, progress
from pipeline.data import swap, version
from pipeline.data.canonical import CLASSES, METADATA, Dataset, build_dataset
from pipeline.data.sources import Request, read_source
from pipeline.errors import DataRefused
from pipeline.params import IngestParams
from pipeline.workspace import Workspace


def ingest(workspace: Workspace, params: IngestParams, source: str | None = None) -> None:
    """Make ``source`` the new version of ``data/`` and ``data.dvc``; the old one stays until then.

    ``source`` is an address of one of `SOURCES`, by default ``params.source``. The rules of
    ``params`` are about ``params.source``: there its ``table``, and the columns that ``label`` and
    ``weight`` name, must exist. Any other source is read by its own ``metadata.csv``; else by
    ``params.table`` where that file exists in it; else as class folders. Its labels and weights are
    its plain columns ``label`` and ``weight``; the rules step in only where such a column is
    missing and the rule's own is there. Which rule was used is logged.

    An equal version changes nothing. A version that ``data.dvc`` does not record is never
    overwritten.

    Raises:
        ConfigurationError: the address, or ``params``, does not fit what is there.
        DataRefused: what is there cannot be used, or ``data/`` has changes nobody recorded.
        Busy: a DVC command is running.
        PipelineError: DVC is missing or failed.
        OSError: the disk is full. In every case ``data/`` and ``data.dvc`` are as they were.
    """
    version.require_repository(workspace)
    swap.recover(workspace)
    dataset = read_dataset(workspace, params, source)
    before = _present(workspace)
    if before is not None and _equal(dataset, before, workspace.data):
        logger.info("nothing changed: data/ is that version already (%s)", version.digest(before))
        return
    old = version.digest(before) if before is not None else None
    changes = _Changes.between(workspace.metadata, before or {}, dataset)
    with swap.incoming_folder(workspace) as incoming:
        after = write_dataset(dataset, incoming)
        _check_readable(incoming, source or params.source)
        new = version.digest(after)
        logger.info("storing the version in DVC's cache")
        swap.install(workspace, incoming, new=new, old=old)
    _summarise(dataset, new, changes.text(before or {}, after) if before is not None else None)


def read_dataset(workspace: Workspace, params: IngestParams, source: str | None) -> Dataset:
    """List ``source``, by default ``params.source``, and apply the rules; see `ingest`."""
    address = source or params.source
    configured = address == params.source
    listing = read_source(Request(address, params.table, configured, workspace.root, address))
    return build_dataset(listing, params, configured=configured)


def write_dataset(dataset: Dataset, folder: Path) -> dict[str, str]:
    """Write the canonical layout into the empty ``folder``; returns the MD5 of every file.

    Raises:
        DataRefused: a file of the source vanished, or may not be read.
        OSError: the disk is full.
    """
    hashes: dict[str, str] = {}
    parents: set[Path] = set()
    with progress("copy", len(dataset.images)) as step:
        for name, original in dataset.images.items():
            target = folder / name
            if target.parent not in parents:
                target.parent.mkdir(parents=True, exist_ok=True)
                parents.add(target.parent)
            hashes[name] = _copy(original, target)
            step.advance()
    for name, content in ((METADATA, dataset.metadata), (CLASSES, dataset.classes)):
        (folder / name).write_bytes(content)
        hashes[name] = version.copy_hashed(folder / name, None)
    return hashes


def _copy(original: Path, target: Path | None) -> str:
    try:
        return version.copy_hashed(original, target)
    except (FileNotFoundError, PermissionError) as error:
        raise DataRefused(
            f"{error.filename}: {os.strerror(error.errno or 0).lower()};"
            " make it readable, or leave it out, and ingest again"
        ) from error


def _present(workspace: Workspace) -> dict[str, str] | None:
    """The hashes of the files in ``data/``; ``None`` where there is none."""
    data, recorded = workspace.data, version.recorded(workspace)
    if not data.exists() and not data.is_symlink():
        return None
    if data.is_symlink() or not data.is_dir():
        raise DataRefused(
            f"{data}: a link or a file, but ingest has to replace a folder; move it away"
        )
    hashes = version.folder_hashes(data)
    if version.digest(hashes) != recorded:
        what = "has changes that data.dvc does not record" if recorded else "is not in data.dvc"
        raise DataRefused(
            f"{data}: {what}, and ingest would overwrite it; keep it as a version of its own by"
            f" '{version.ACCEPT}', or move it away"
            + (f", or drop the changes by '{version.BRING_BACK}'" if recorded else "")
        )
    return hashes


def _equal(dataset: Dataset, present: Mapping[str, str], data: Path) -> bool:
    """Whether ``data``, with the hashes ``present``, is ``dataset``; the cheap questions first."""
    if {METADATA, CLASSES, *dataset.images} != set(present):
        return False
    texts = ((METADATA, dataset.metadata), (CLASSES, dataset.classes))
    if any((data / name).read_bytes() != content for name, content in texts):
        return False
    images = dataset.images.items()
    if any(path.stat().st_size != (data / name).stat().st_size for name, path in images):
        return False
    with progress("compare", len(images)) as step:
        for name, path in images:
            if _copy(path, None) != present[name]:
                return False
            step.advance()
    return True


def _check_readable(incoming: Path, source: str) -> None:
    """What scan would refuse of the table is refused before it takes a good version's place."""
    from pipeline.data.listing import read_listing  # a second of imports

    path = incoming / METADATA
    try:
        read_listing(path)
    except DataRefused as error:
        raise DataRefused(str(error).replace(str(path), source)) from error


@dataclass(frozen=True)
class _Changes:
    """What is said about the images, in the version before and in the new one."""

    old_rows: dict[str, dict[str, str]]
    new_rows: dict[str, dict[str, str]]

    @classmethod
    def between(cls, metadata: Path, before: Mapping[str, str], dataset: Dataset) -> _Changes:
        old = metadata.read_text(encoding="utf-8") if METADATA in before else ""
        return cls(_rows(old), _rows(dataset.metadata.decode()))

    def text(self, before: Mapping[str, str], after: Mapping[str, str]) -> str:
        both = self.old_rows.keys() & self.new_rows.keys()
        labels = sum(self.old_rows[n].get("label") != self.new_rows[n]["label"] for n in both)
        counted = {
            "images added": len(self.new_rows.keys() - self.old_rows.keys()),
            "removed": len(self.old_rows.keys() - self.new_rows.keys()),
            "with other bytes": sum(before.get(name) != after[name] for name in both),
            "with another label": labels,
            "with other values beside": sum(self.old_rows[n] != self.new_rows[n] for n in both)
            - labels,
        }
        return ", ".join(f"{count:,} {what}" for what, count in counted.items() if count)


def _rows(metadata: str) -> dict[str, dict[str, str]]:
    reader = csv.DictReader(io.StringIO(metadata, newline=""))
    return {row.get("file_name", ""): row for row in reader}


def _summarise(dataset: Dataset, md5: str, changes: str | None) -> None:
    for note in dataset.notes:
        logger.info("%s", note)
    counts = dataset.counts
    unlabelled = len(dataset.images) - sum(counts.values())
    logger.info(
        "data/ is the version %s: %s images: %s%s",
        md5,
        f"{len(dataset.images):,}",
        ", ".join(f"{name} {count:,}" for name, count in counts.items()),
        f", without a label {unlabelled:,}" if unlabelled else "",
    )
    if changes is not None:
        logger.info("against the version before: %s", changes or "the same images and labels")
    logger.info("written: data/, data.dvc; next: commit data.dvc, then 'make run' or 'dvc repro'")
