"""The command line: ``python -m pipeline COMMAND``.

Each command imports what it runs after it has read the settings, so that ``--help`` and a slip in
``params.yaml`` are answered in an instant. Exit codes: 0 done, 1 failed,
2 wrong usage or configuration, 3 data refused, 75 busy (another run holds the workspace).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.artifacts import write_text
from pipeline.console import logger, set_up_logging
from pipeline.errors import ConfigurationError, PipelineError, of_the_system
from pipeline.params import Params, json_schema, load
from pipeline.parent import end_with_parent
from pipeline.workspace import Workspace

FAILURE_FILE = "PIPELINE_FAILURE_FILE"
"""Environment variable: where a failing command leaves ``{"exit_code", "message"}`` for the flow,
because between the two stands dvc, which has an exit code of its own."""

app = typer.Typer(
    help="From a folder of labelled photographs to a registered CNN. The stages below are run by "
    "'dvc repro' and by the flows; each can also be run alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Bring back, or accept, the version of the data.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Variant = Annotated[str, typer.Argument(help="A name under 'variants' in params.yaml.")]
ImageSize = Annotated[int | None, typer.Option(min=1, help="Side of the images in pixels.")]
Channels = Annotated[int | None, typer.Option(min=1, max=4, help="Of the images.")]
Classes = Annotated[int | None, typer.Option(min=1, help="How many classes.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def _open() -> tuple[Workspace, Params]:
    workspace = Workspace.here()
    return workspace, load(workspace.params)


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
    workspace, params = _open()
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
    workspace, params = _open()
    from pipeline.data.ingestion.restore import restore

    with workspace.hold("data restore"):
        restore(workspace, params.ingest)


@data_app.command("accept")
def data_accept() -> None:
    """Record the edits inside data/ as its new version in data.dvc."""
    workspace, _ = _open()
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
    workspace, params = _open()
    from pipeline.data.validation.validate import accept_reference, forget_reference

    with workspace.hold("data accept-reference"):
        if forget:
            forget_reference(workspace)
        else:
            accept_reference(workspace, params.validation, group=params.split.group)


@app.command(rich_help_panel="Stages")
def scan() -> None:
    """Read every image once and measure it."""
    workspace, params = _open()
    from pipeline.data.scanning.scan import scan as run

    run(workspace, params.scan)


@app.command(rich_help_panel="Stages")
def validate() -> None:
    """Judge the manifest, set bad images aside, stop where the data as a whole is unusable."""
    workspace, params = _open()
    from pipeline.data.validation.validate import validate as run

    run(workspace, params.validation, group=params.split.group)


@app.command(rich_help_panel="Stages")
def split() -> None:
    """Assign every accepted image to train, val or test."""
    workspace, params = _open()
    from pipeline.data.split import split as run

    run(workspace, params.split)


@app.command(rich_help_panel="Stages")
def augment() -> None:
    """Decode and resize once into memory-mapped arrays; draw a preview of the random policy."""
    workspace, params = _open()
    from pipeline.data.pack import pack
    from pipeline.vision.augmentation import build_policy
    from pipeline.vision.preview import preview

    # First, so that a wrong name does not cost the decoding.
    build_policy(params.augment.policy, where="augment.policy")
    pack(workspace, params.augment)
    preview(workspace, params.augment)


@app.command(rich_help_panel="Stages")
def train(variant: Variant) -> None:
    """Train one variant."""
    workspace, params = _open()
    from pipeline.training.train import train as run

    run(workspace, params, variant)


@app.command(rich_help_panel="Stages")
def evaluate(variant: Variant) -> None:
    """Measure one variant on the validation and test images, and write its report."""
    workspace, params = _open()
    from pipeline.evaluation.evaluate import evaluate as run
    from pipeline.release.sync import sync_variant

    run(workspace, params, variant)
    sync_variant(workspace, params, variant)


@app.command(rich_help_panel="Stages")
def compare() -> None:
    """Rank the variants by the validation images; the first becomes the challenger."""
    workspace, params = _open()
    from pipeline.evaluation.compare import compare as run

    run(workspace, params)


@app.command(rich_help_panel="Stages")
def index(variant: Variant) -> None:
    """Embed all images by one variant, for 'search'."""
    workspace, params = _open()
    from pipeline.evaluation.explain.index import index as run

    run(workspace, params, variant)


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
    workspace, params = _open()
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
    workspace, params = _open()
    from pipeline.labels.judge import judge_labels

    judge_labels(workspace, params, variant)


@app.command(rich_help_panel="Release")
def sync() -> None:
    """Give every trained variant its MLflow run, also where DVC took it from a cache."""
    workspace, params = _open()
    from pipeline.release.sync import sync as run

    run(workspace, params)


@app.command(rich_help_panel="Release")
def register() -> None:
    """Register the challenger; it becomes champion if it passes the gate."""
    workspace, params = _open()
    from pipeline.release.register import register as run

    with workspace.hold("register"):
        run(workspace, params)


@app.command(rich_help_panel="Release")
def rollback() -> None:
    """Return the alias 'champion' to the version that held it before."""
    workspace, params = _open()
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
    workspace, params = _open()
    from pipeline.release.predict import predict as run

    run(workspace, params.register_, paths, output)


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
    project = _open() if in_project and not model else None
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

    _, parameters = _open()
    from pipeline.data.validation.checks import default_suites
    from pipeline.data.validation.validate import check_names

    check_names(parameters.validation)
    if expectations:
        typer.echo(default_suites(parameters.validation), nl=False)
        return

    from pipeline.data.wording import several
    from pipeline.evaluation.sections import check_sections
    from pipeline.training.pretraining.pretrain import check_pretraining
    from pipeline.vision.augmentation import build_policy
    from pipeline.vision.models import check_architecture

    check_sections(parameters.evaluate.sections)
    build_policy(parameters.augment.policy, where="augment.policy")
    for name, variant in parameters.variants.items():
        check_architecture(
            variant.model,
            image_size=variant.image_size,
            architecture=variant.architecture,
            where=f"variants.{name}",
        )
        check_pretraining(variant, where=f"variants.{name}")
        policy, where = parameters.policy(name)
        build_policy(policy, where=where)
    logger.info("params.yaml is fine: %s", several(len(parameters.variants), "variant"))


def main() -> None:
    """Run the command line, turning errors a user can cause into a message and an exit code."""
    end_with_parent()
    set_up_logging(verbose=bool(os.environ.get("PIPELINE_VERBOSE")))
    # PyTorch's threads wait for each other by spinning. Where another process wants a core, the
    # usual 300,000 turns slow a training many times over; fewer cost a tenth on an idle one.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    try:
        app(standalone_mode=True)
    except PipelineError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        if (known := of_the_system(error)) is None:
            raise
        _fail(str(known), known.exit_code)


def _fail(message: str, exit_code: int) -> None:
    logger.error("%s", message)
    if path := os.environ.get(FAILURE_FILE):
        write_text(Path(path), json.dumps({"exit_code": exit_code, "message": message}))
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
