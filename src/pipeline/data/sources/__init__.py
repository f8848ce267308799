"""Where images come from. A new kind is one module with ``FORM``, ``claims`` and ``read``
(`pipeline.data.sources.source.Source`) and one entry in `SOURCES`."""

from __future__ import annotations

import dataclasses
import shutil
import unicodedata

from pipeline.data.sources import (
    archive,
    class_folders,
    idx,
    imagefolder,
    manifest,
    package,
    remote,
    split_folders,
    torchvision_dataset,
    webdataset,
)
from pipeline.data.sources.names import check_twins, redacted
from pipeline.data.sources.source import Listing, Request, Source
from pipeline.errors import ConfigurationError, DataRefused, did_you_mean

__all__ = ["SOURCES", "Listing", "Request", "Source", "read_source", "redacted"]


def read_source(request: Request) -> Listing:
    """List what lies at an address, by the first of `SOURCES` whose kind it is.

    What an archive or a remote folder holds is asked again, until it is a listing. After an error
    nothing is left in ``request.scratch``.

    Raises:
        ConfigurationError: there is nothing at the address, or it is of no known kind.
        DataRefused: what lies there cannot be used.
        PipelineError: it cannot be downloaded.
    """
    try:
        listing = _listed(request)
        check_twins(listing.columns["file_name"], request.shown)
        if "label" in listing.columns:  # one class, whichever way its accents are written
            labels = [unicodedata.normalize("NFC", label) for label in listing.columns["label"]]
            listing = dataclasses.replace(listing, columns={**listing.columns, "label": labels})
    except PermissionError as error:
        _clear(request)
        raise DataRefused(
            f"{error.filename}: no permission to read it; grant it, or leave the file out"
        ) from error
    except BaseException:
        _clear(request)
        raise
    return listing


def _listed(request: Request) -> Listing:
    request, named = _of_named_kind(request)
    while True:
        source = named or next((s for s in SOURCES.values() if s.claims(request)), None)
        if source is None:
            raise _unknown(request)
        found, named = source.read(request), None
        if isinstance(found, Listing):
            return dataclasses.replace(
                found,
                skipped=found.skipped + request.skipped,
                refused=found.refused + request.refused,
            )
        request = found


def _of_named_kind(request: Request) -> tuple[Request, Source | None]:
    """Take ``KIND:`` from the address, as in ``idx:FOLDER``, and check that it is of that kind."""
    kind, _, address = request.address.partition(":")
    if kind not in LOCAL or request.folder.exists():
        return request, None
    named = dataclasses.replace(request, address=address)
    if not named.folder.exists():
        raise _unknown(named)
    if not SOURCES[kind].claims(named):
        raise ConfigurationError(
            f"{_where(request)}: '{request.shown}' is not what it is said to be; expected"
            f" {SOURCES[kind].FORM}"
        )
    return named, SOURCES[kind]


def _clear(request: Request) -> None:
    """Empty the scratch folder, which whoever asks has made for this alone."""
    shutil.rmtree(request.scratch, ignore_errors=True)


def _where(request: Request) -> str:
    return "params.yaml: ingest.source" if request.configured else "ingest"


def _unknown(request: Request) -> ConfigurationError:
    forms = "".join(f"\n    {source.FORM}" for source in SOURCES.values())
    folder = request.folder
    if folder.exists():
        what = f"'{request.shown}' is a file, but none of a kind that holds or names images"
    else:
        scheme, colon, _ = request.address.partition(":")
        near = did_you_mean(scheme, SOURCES) if colon else ""
        if not near and folder.parent.is_dir():
            near = did_you_mean(folder.name, (path.name for path in folder.parent.iterdir()))
        what = f"there is no '{request.shown}'{near}"
    return ConfigurationError(f"{_where(request)}: {what}\n  expected:{forms}")


SOURCES: dict[str, Source] = {
    "package": package,
    "torchvision": torchvision_dataset,
    "remote": remote,
    "webdataset": webdataset,
    "archive": archive,
    "manifest": manifest,
    "imagefolder": imagefolder,
    "idx": idx,
    "split_folders": split_folders,
    "class_folders": class_folders,
}
"""All kinds, in the order in which they are asked."""
LOCAL = [kind for kind in SOURCES if kind not in ("package", "torchvision", "remote")]
"""Kinds that an address may name before a colon."""
