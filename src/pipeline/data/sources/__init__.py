"""Where images come from. A new kind is one module with ``FORM``, ``claims`` and ``read``
(`pipeline.data.sources.source.Source`) and one entry in `SOURCES`."""

from __future__ import annotations

from pipeline.data.sources import class_folders, imagefolder, package
from pipeline.data.sources.source import Listing, Request, Source
from pipeline.errors import ConfigurationError, DataRefused, did_you_mean

__all__ = ["SOURCES", "Listing", "Request", "Source", "read_source"]


def read_source(request: Request) -> Listing:
    """List what lies at an address, by the first of `SOURCES` whose kind it is.

    Raises:
        ConfigurationError: there is nothing at the address, or it is of no known kind.
        DataRefused: what lies there cannot be used.
    """
    while True:
        source = next((s for s in SOURCES.values() if s.claims(request)), None)
        if source is None:
            raise _unknown(request)
        try:
            found = source.read(request)
        except PermissionError as error:
            raise DataRefused(
                f"{error.filename}: no permission to read it; grant it, or leave the file out"
            ) from error
        if isinstance(found, Listing):
            return found
        request = found


def _unknown(request: Request) -> ConfigurationError:
    where = "params.yaml: ingest.source" if request.configured else "ingest"
    forms = "; ".join(source.FORM for source in SOURCES.values())
    folder = request.folder
    if folder.exists():
        what = f"'{request.shown}' is a file, not a folder"
    else:
        scheme, colon, _ = request.address.partition(":")
        near = did_you_mean(scheme, SOURCES) if colon else ""
        if not near and folder.parent.is_dir():
            near = did_you_mean(folder.name, (path.name for path in folder.parent.iterdir()))
        what = f"there is no '{request.shown}'{near}"
    return ConfigurationError(f"{where}: {what}\n  expected: {forms}")


SOURCES: dict[str, Source] = {
    "package": package,
    "imagefolder": imagefolder,
    "class_folders": class_folders,
}
"""All kinds, in the order in which they are asked."""
