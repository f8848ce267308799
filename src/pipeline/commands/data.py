"""Commands about data: its versions, what it is compared with, its images and its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.commands.project import open_project
from pipeline.errors import ConfigurationError

app = typer.Typer()
data_app = typer.Typer(help="Bring back, or accept, the version of the data.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@app.command(rich_help_panel="Data")
def ingest(
    source: Annotated[
        str | None,
        typer.Argument(
            help="Class folders, also below train, val and test; a folder with metadata.csv, "
            ".jsonl or .parquet; such a table; a zip or tar of any of these; IDX files; "
            "WebDataset shards; torchvision:NAME; package:NAME/FOLDER; https://, s3://, gs:// "
            "and others. Default: ingest.source."
        ),
    ] = None,
    add: Annotated[
        bool | None,
        typer.Option(
            "--add/--replace",
            help="Let its images join those in data/, or take their place. Default: ingest.mode.",
            show_default=False,
        ),
    ] = None,
    on_conflict: Annotated[
        Literal["refuse", "keep", "replace"],
        typer.Option(
            help="With --add, where an image of data/ comes with another label: stop, keep the "
            "label of data/, or take that of the batch."
        ),
    ] = "refuse",
    allow_new_classes: Annotated[
        bool,
        typer.Option(
            "--allow-new-classes", help="Append labels that are no class yet to classes.json."
        ),
    ] = False,
    relabel: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="In place of a source: a CSV with file_name and label, whose labels become those "
            "of data/. An empty one changes nothing, '(remove)' takes the image out.",
        ),
    ] = None,
) -> None:
    """Make a source, or corrected labels, the new version of data/ and data.dvc."""
    if relabel and (source or add is not None or on_conflict != "refuse"):
        raise ConfigurationError(
            "ingest --relabel TABLE: takes no source, --add, --replace or --on-conflict;"
            " correct the labels first, then ingest the source"
        )
    workspace, params = open_project()
    from pipeline.data.ingestion import ingest as run
    from pipeline.data.ingestion.merge import OnConflict

    with workspace.hold("ingest"):
        if relabel:
            run.relabel(workspace, params.ingest, relabel, allow_new_classes=allow_new_classes)
        else:
            run.ingest(
                workspace,
                params.ingest,
                source,
                add=add,
                on_conflict=OnConflict(on_conflict),
                allow_new_classes=allow_new_classes,
            )


@data_app.command("restore")
def data_restore() -> None:
    """Make data/ what data.dvc says: from the DVC cache or remote, else from ingest.source."""
    workspace, params = open_project()
    from pipeline.data.ingestion.restore import restore

    with workspace.hold("data restore"):
        restore(workspace, params.ingest)


@data_app.command("accept")
def data_accept() -> None:
    """Record the edits inside data/ as its new version in data.dvc."""
    workspace, _ = open_project()
    from pipeline.data.ingestion.restore import accept

    with workspace.hold("data accept"):
        accept(workspace)


@data_app.command("accept-reference")
def data_accept_reference(
    forget: Annotated[
        bool, typer.Option("--forget", help="Empty reference.json: compare with nothing.")
    ] = False,
) -> None:
    """Make the accepted images what later data is compared with (reference.json)."""
    workspace, params = open_project()
    from pipeline.data.validation.validate import accept_reference, forget_reference

    with workspace.hold("data accept-reference"):
        if forget:
            forget_reference(workspace)
        else:
            accept_reference(workspace, params.validation, group=params.split.group)


@app.command(rich_help_panel="Data")
def search(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    variant: Annotated[
        str | None, typer.Option(help="Whose embedding compares. Default: the challenger's.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many images to show.")] = 24,
    edges: Annotated[
        bool, typer.Option("--edges", help="Compare edges: shapes rather than shades.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("search.html"),
) -> None:
    """Show the images of the data that a variant takes for most like a given one."""
    workspace, params = open_project()
    from pipeline.evaluation.explain.search import search as run

    run(workspace, params, image, out, variant=variant, count=count, edges=edges)


@app.command(rich_help_panel="Data")
def labels(
    variant: Annotated[
        str | None,
        typer.Option(
            help="Whose networks judge, by a name under 'variants'. Default: labels.variant."
        ),
    ] = None,
) -> None:
    """Find doubtful labels by networks that did not learn from them; list them for correction."""
    workspace, params = open_project()
    from pipeline.labels.judge import judge_labels

    judge_labels(workspace, params, variant)
