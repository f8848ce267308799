"""``python -m pipeline preset``: show the presets, or write one into params.yaml."""

from __future__ import annotations

import difflib
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.artifacts import write_text
from pipeline.console import logger
from pipeline.errors import ConfigurationError
from pipeline.params import load
from pipeline.presets.preset import PresetFile, preset_names, read_preset
from pipeline.presets.splice import Document, splice
from pipeline.settings import check_settings
from pipeline.workspace import Workspace

_UNBOUNDED = 500


def list_presets(workspace: Workspace) -> None:
    """Print name, data, what is trained, the published figure and where it was published."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("preset", "data", "what"):
        table.add_column(title, overflow="fold")
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column("published by", overflow="fold")
    for name in preset_names(workspace.presets):
        preset = read_preset(workspace.presets, name).preset
        figure = preset.figure
        table.add_row(
            name,
            preset.data.partition(",")[0],
            preset.title,
            f"{figure.accuracy:.2f} %",
            figure.source,
        )
    width = None if sys.stdout.isatty() else _UNBOUNDED
    Console(file=sys.stdout, width=width, highlight=False).print(table)


def apply_preset(workspace: Workspace, name: str, *, dry_run: bool) -> None:
    """Write the settings of a preset into params.yaml, and print what that changes.

    Comments, order and all other settings stay. Nothing is written that params.yaml may not hold.
    What is not in git as it is gets a copy first.

    Raises:
        ConfigurationError: there is no such preset, or params.yaml cannot be read or take it.
    """
    found = read_preset(workspace.presets, name)
    before = workspace.params.read_text(encoding="utf-8")
    after = with_preset(Document(workspace.params.name, before), found).text
    _check(after, found)
    changes = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        "params.yaml",
        f"params.yaml with {found.document.name}",
    )
    sys.stdout.writelines(changes)
    if before == after:
        logger.info("params.yaml holds the preset '%s' already", name)
        return
    if dry_run:
        logger.info("params.yaml is as it was (--dry-run)")
        return
    way_back = _way_back(workspace, before)
    write_text(workspace.params, after)
    figure = found.preset.figure
    logger.info(
        "params.yaml holds the preset '%s': %s. Published: %.2f %% (%s)\n"
        "  the data (%s): %s\n"
        "  where they are other data than before: python -m pipeline data accept-reference"
        " --forget\n"
        "  then: make run, or dvc repro\n"
        "  the former params.yaml: %s",
        *(name, found.preset.title, figure.accuracy, figure.source),
        *(found.preset.data, found.preset.ingest, way_back),
    )


def with_preset(document: Document, found: PresetFile) -> Document:
    """``document``, a params.yaml, with the settings of the preset that differ.

    Raises:
        ConfigurationError: the preset has a setting that params.yaml has not.
    """
    preset = found.document
    changes = {
        keys: preset.written(("params", *keys))
        for keys in found.settings
        if document.value(keys) != preset.value(("params", *keys))
    }
    return splice(document, changes)


def _check(text: str, found: PresetFile) -> None:
    """Read ``text`` as params.yaml would be, and check what it names."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            check_settings(load(path))
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{found.document.name} does not fit, so params.yaml stays as it was: {error}"
            ) from error


def _way_back(workspace: Workspace, before: str) -> str:
    """The command that brings the present params.yaml back; a copy is kept if git cannot."""
    command = ["git", "diff", "--quiet", "HEAD", "--", workspace.params.name]
    try:
        done = subprocess.run(command, cwd=workspace.root, capture_output=True, check=False)
        in_git = done.returncode == 0
    except OSError:  # no git on this machine
        in_git = False
    if in_git:
        return f"git restore {workspace.params.name}"
    digest = sha256(before.encode()).hexdigest()[:8]
    copy = workspace.state / f"params-{digest}.yaml"
    write_text(copy, before)
    return f"cp {copy.relative_to(workspace.home)} {workspace.params.name}"
