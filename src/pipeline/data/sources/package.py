"""A folder inside an installed Python package, which is found but never imported."""

from __future__ import annotations

import dataclasses
from importlib import metadata, util
from pathlib import Path, PurePosixPath

from pipeline.data.sources.source import Listing, Request
from pipeline.errors import ConfigurationError, did_you_mean

FORM = "package:NAME/FOLDER"

_PREFIX = "package:"


def claims(request: Request) -> bool:
    return request.address.startswith(_PREFIX)


def read(request: Request) -> Listing | Request:
    """Point to the folder.

    Raises:
        ConfigurationError: no such package is installed, or it has no such folder.
    """
    name, _, inner = request.address.removeprefix(_PREFIX).partition("/")
    if not name.isidentifier() or ".." in PurePosixPath(inner).parts or inner.startswith("/"):
        raise ConfigurationError(f"'{request.shown}' is no address of the form {FORM}")
    spec = util.find_spec(name)  # a top-level name: finding it runs no code of the package
    if spec is None or spec.submodule_search_locations is None:
        near = did_you_mean(name, metadata.packages_distributions())
        raise ConfigurationError(
            f"'{request.shown}': no package '{name}' is installed"
            + (near or "; run 'make setup', or correct the name")
        )
    for location in spec.submodule_search_locations:
        folder = Path(location, inner)
        if folder.is_dir():
            return dataclasses.replace(request, address=str(folder))
    beside = [
        path.name
        for location in spec.submodule_search_locations
        if (parent := Path(location, inner).parent).is_dir()
        for path in parent.iterdir()
        if path.is_dir()
    ]
    raise ConfigurationError(
        f"'{request.shown}': the package '{name}' has no folder '{inner}'"
        + (did_you_mean(PurePosixPath(inner).name, beside) or "; correct it")
    )
