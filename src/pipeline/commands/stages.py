"""Commands that `dvc.yaml` runs, each of them a stage or one variant's part of it."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.project import open_project

app = typer.Typer()

Variant = Annotated[str, typer.Argument(help="A name under 'variants' in params.yaml.")]


@app.command(rich_help_panel="Stages")
def scan() -> None:
    """Read every image once and measure it."""
    workspace, params = open_project()
    from pipeline.data.scanning.scan import scan as run

    run(workspace, params.scan)


@app.command(rich_help_panel="Stages")
def validate() -> None:
    """Judge the manifest, set bad images aside, stop where the data as a whole is unusable."""
    workspace, params = open_project()
    from pipeline.data.validation.validate import validate as run

    run(workspace, params.validation, group=params.split.group)


@app.command(rich_help_panel="Stages")
def split() -> None:
    """Assign every accepted image to train, val or test."""
    workspace, params = open_project()
    from pipeline.data.split import split as run

    run(workspace, params.split)


@app.command(rich_help_panel="Stages")
def augment() -> None:
    """Decode and resize once into memory-mapped arrays; draw a preview of the random policy."""
    workspace, params = open_project()
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
    workspace, params = open_project()
    from pipeline.training.train import train as run

    run(workspace, params, variant)


@app.command(rich_help_panel="Stages")
def evaluate(variant: Variant) -> None:
    """Measure one variant on the validation and test images, and write its report."""
    workspace, params = open_project()
    from pipeline.evaluation.evaluate import evaluate as run
    from pipeline.release.sync import sync_variant

    run(workspace, params, variant)
    sync_variant(workspace, params, variant)


@app.command(rich_help_panel="Stages")
def compare() -> None:
    """Rank the variants by the validation images; the first becomes the challenger."""
    workspace, params = open_project()
    from pipeline.evaluation.compare import compare as run

    run(workspace, params)


@app.command(rich_help_panel="Stages")
def index(variant: Variant) -> None:
    """Embed all images by one variant, for 'search'."""
    workspace, params = open_project()
    from pipeline.evaluation.explain.index import index as run

    run(workspace, params, variant)
