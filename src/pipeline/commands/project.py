"""What nearly every command begins with."""

from __future__ import annotations

from pipeline.params import Params, load
from pipeline.workspace import Workspace


def open_project() -> tuple[Workspace, Params]:
    """The project in the working directory, and its settings.

    Raises:
        ConfigurationError: there is none, or its ``params.yaml`` is not right.
    """
    workspace = Workspace.here()
    return workspace, load(workspace.params)
