"""``python -m pipeline models``: what a variant can name, with sizes, costs and papers."""

from __future__ import annotations

import importlib
import inspect
import json as to_json
import re
import sys
from dataclasses import dataclass
from types import ModuleType

from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.table import Table

from pipeline.errors import ConfigurationError, did_you_mean
from pipeline.inspection.layers import anatomy
from pipeline.inspection.specimen import blank, is_own, usual_subjects
from pipeline.inspection.wording import console_of_tables, short
from pipeline.vision.models import MODELS, ORIGINS, list_models

MEASURED = 24
"""Libraries' networks are measured where a search leaves so many or fewer: each takes its time."""

_PAPER = re.compile(
    r"[A-Z][\w’'-]+(?: et al\.|(?:, [A-Z][\w’'-]+)*(?:,? and [A-Z][\w’'-]+)?),"
    r" [^.:;()]{4,160}?,? (?:19|20)\d\d(?: \(arXiv:\d{4}\.\d{4,5}\))?"
)


@dataclass(frozen=True)
class Entry:
    """A network of the list; numbers are None where they were not worked out."""

    name: str
    source: str
    """The paper of an own network, the library and its version of another."""
    image_size: int | None = None
    channels: int | None = None
    num_classes: int | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    activation_bytes: int | None = None
    receptive_field: str | None = None
    problem: str | None = None
    """Why there are no numbers though they were asked for."""


def catalogue(
    grep: str,
    *,
    image_size: int | None,
    channels: int | None,
    num_classes: int | None,
    json: bool,
) -> None:
    """Print all networks whose name contains ``grep``.

    Raises:
        ConfigurationError: there are none, with the nearest name; or none can be built so.
    """
    names = list_models(grep)
    if not names:
        words = [name.rpartition(":")[2] for name in list_models()]
        raise ConfigurationError(
            f"models --grep {grep}: no network's name contains '{grep}'"
            + (did_you_mean(grep, words) or "; 'python -m pipeline models' lists all")
        )
    theirs = [name for name in names if not is_own(name)]
    measured = set(names if len(theirs) <= MEASURED else names[: len(names) - len(theirs)])
    asked = {"image_size": image_size, "channels": channels, "num_classes": num_classes}
    entries = [
        measure(name, **asked) if name in measured else Entry(name, source_of(name))
        for name in names
    ]
    if json:
        records = [vars(entry) for entry in entries]
        sys.stdout.write(to_json.dumps(records, indent=2, ensure_ascii=False) + "\n")
        return
    _print(entries)


def measure(
    name: str, *, image_size: int | None, channels: int | None, num_classes: int | None
) -> Entry:
    """The entry of one network, looked at for such images, or for those it usually takes."""
    problem = ""
    for subject in usual_subjects(
        name, image_size=image_size, channels=channels, num_classes=num_classes
    ):
        try:
            net = blank(subject)
        except ConfigurationError as error:
            problem = str(error).removeprefix("params.yaml: model: ").removeprefix("params.yaml: ")
            continue
        found = anatomy(net, channels=subject.channels, image_size=subject.image_size)
        return Entry(
            name,
            source_of(name),
            subject.image_size,
            subject.channels,
            subject.num_classes,
            found.parameters,
            found.multiply_adds,
            found.memory,
            found.field(found.last_map),
        )
    return Entry(name, source_of(name), problem=problem)


def source_of(name: str) -> str:
    """The paper that the code of an own network names first; else the library and its version."""
    origin = name.partition(":")[0]
    if origin in ORIGINS:
        version: str = importlib.import_module(origin).__version__
        return f"{origin} {version.partition('+')[0]}"
    builder = MODELS[name]
    module = inspect.getmodule(builder)
    for documented in (builder, module if isinstance(module, ModuleType) else None):
        text = " ".join((inspect.getdoc(documented) or "").split())
        if found := _PAPER.search(text):
            return found[0]
    return "own"


def _print(entries: list[Entry]) -> None:
    console = console_of_tables()
    rows = [entry for entry in entries if entry.image_size is not None or entry.problem]
    if rows:
        console.print(_table(rows))
    for origin in ORIGINS:
        names = [
            entry.name
            for entry in entries
            if entry not in rows and entry.name.startswith(f"{origin}:")
        ]
        if names and console.is_terminal:
            console.print(f"{source_of(f'{origin}:')}, {len(names)} as {origin}:NAME", style="bold")
            shown = [name.partition(":")[2] for name in names]
            console.print(Columns(shown, padding=(0, 2), column_first=True))
        elif names:
            console.print("\n".join(names), markup=False)
    if len(rows) < len(entries):
        console.print(
            f"Numbers of a library's networks: --grep with a text that leaves {MEASURED} of them"
            " or fewer, or 'python -m pipeline inspect NAME'.",
            style="dim",
        )


def _table(rows: list[Entry]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for title in ("images", "classes", "parameters", "multiply-adds", "field"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("from", overflow="fold")
    for entry in rows:
        if entry.problem:
            table.add_row(entry.name, "", "", "", "", "–", entry.problem)
            continue
        table.add_row(
            entry.name,
            f"{entry.image_size} px × {entry.channels}",
            f"{entry.num_classes}",
            short(entry.parameters or 0),
            short(entry.multiply_adds or 0),
            entry.receptive_field,
            entry.source,
        )
    return table
