"""Commands about what ``params.yaml`` can say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.project import open_project
from pipeline.console import logger
from pipeline.params import json_schema
from pipeline.workspace import Workspace

app = typer.Typer()

ImageSize = Annotated[int | None, typer.Option(min=1, help="Side of the images in pixels.")]
Channels = Annotated[int | None, typer.Option(min=1, max=4, help="Of the images.")]
Classes = Annotated[int | None, typer.Option(min=1, help="How many classes.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


@app.command(rich_help_panel="Settings")
def models(
    grep: Annotated[str, typer.Option(help="Only names that contain this.")] = "",
    image_size: ImageSize = None,
    channels: Channels = None,
    classes: Classes = None,
    as_json: AsJson = False,
) -> None:
    """List the networks that a variant can name, with their sizes and costs."""
    from pipeline.inspection.catalogue import catalogue

    catalogue(grep, image_size=image_size, channels=channels, num_classes=classes, json=as_json)


@app.command(rich_help_panel="Settings")
def inspect(
    name: Annotated[str, typer.Argument(help="A variant of params.yaml, or a network's name.")],
    image_size: ImageSize = None,
    channels: Channels = None,
    classes: Classes = None,
    architecture: Annotated[
        str | None,
        typer.Option(metavar="YAML", help="Arguments of the network, such as '{width: 16}'."),
    ] = None,
    model: Annotated[
        bool, typer.Option("--model", help="NAME is a network, also if a variant is called so.")
    ] = False,
    as_json: AsJson = False,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the feature maps to this .svg or .png."),
    ] = None,
) -> None:
    """Show the layers of a network: windows, sizes, receptive fields, parameters, costs."""
    in_project = (Path.cwd() / "params.yaml").is_file()
    project = open_project() if in_project and not model else None
    from pipeline.inspection.inspect import inspect as run

    run(
        name,
        project,
        image_size=image_size,
        channels=channels,
        num_classes=classes,
        architecture=architecture,
        as_model=model,
        json=as_json,
        figure=figure,
    )


@app.command(rich_help_panel="Settings")
def preset(
    name: Annotated[str | None, typer.Argument(help="A file of presets/, without its end.")] = None,
    show: Annotated[
        bool, typer.Option("--list", help="Show the presets: data and published figure.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
    ] = False,
) -> None:
    """Write a recipe for a published figure into params.yaml."""
    workspace = Workspace.here()
    from pipeline.presets.apply import apply_preset, list_presets

    if name is None or show:
        list_presets(workspace)
    else:
        apply_preset(workspace, name, dry_run=dry_run)


@app.command(rich_help_panel="Settings")
def params(
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of params.yaml.")
    ] = False,
    expectations: Annotated[
        bool, typer.Option("--expectations", help="Print the checks as Great Expectations' suites.")
    ] = False,
) -> None:
    """Check params.yaml, the names of networks, augmentations and checks included."""
    if schema:
        typer.echo(json_schema(), nl=False)
        return

    _, parameters = open_project()
    if expectations:
        from pipeline.data.validation.checks import default_suites
        from pipeline.data.validation.validate import check_names

        check_names(parameters.validation)
        typer.echo(default_suites(parameters.validation), nl=False)
        return

    from pipeline.data.wording import several
    from pipeline.settings import check_settings

    check_settings(parameters)
    logger.info("params.yaml is fine: %s", several(len(parameters.variants), "variant"))
