"""Commands about MLflow's runs and the registered model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.project import open_project

app = typer.Typer()


@app.command(rich_help_panel="Release")
def sync() -> None:
    """Give every trained variant its MLflow run, also where DVC took it from a cache."""
    workspace, params = open_project()
    from pipeline.release.sync import sync as run

    run(workspace, params)


@app.command(rich_help_panel="Release")
def register() -> None:
    """Register the challenger; it becomes champion if it passes the gate."""
    workspace, params = open_project()
    from pipeline.release.register import register as run

    with workspace.hold("register"):
        run(workspace, params)


@app.command(rich_help_panel="Release")
def rollback() -> None:
    """Return the alias 'champion' to the version that held it before."""
    workspace, params = open_project()
    from pipeline.release.register import rollback as run

    with workspace.hold("rollback"):
        run(workspace, params.register_)


@app.command(rich_help_panel="Release")
def predict(
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The CSV to write. Default: the terminal.")
    ] = None,
) -> None:
    """Label images with the champion: a CSV of labels and probabilities."""
    workspace, params = open_project()
    from pipeline.release.predict import predict as run

    run(workspace, params.register_, paths, output)
