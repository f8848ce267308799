"""What a training flow ends with: a table on the terminal, and a page among Prefect's artifacts."""

from __future__ import annotations

import base64
import csv
import io
from dataclasses import dataclass
from pathlib import Path

from flows import settings
from pipeline.params import Params
from pipeline.workspace import Workspace

PICTURES = 200_000
"""Bytes that all pictures of the artifact may take, as text."""
TEST_METRICS = ("accuracy", "auroc")
"""Shown beside the metric that the variants are compared by."""


@dataclass(frozen=True)
class Board:
    """All that is shown of a finished run. ``rows``: a line of text for each column, best first."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    verdict: str
    reports: tuple[Path, ...]
    pictures: tuple[tuple[str, Path], ...]
    mlflow: str
    prefect: str


def read(workspace: Workspace, params: Params, verdict: str) -> Board:
    """Collect what the run wrote; ``verdict`` is what ``register`` said last."""
    with workspace.leaderboard.open(encoding="utf-8", newline="") as file:
        places = list(csv.DictReader(file))
    metric = params.compare.metric
    shown = [f"val_{metric}", f"test_{metric}"]
    shown += [f"test_{name}" for name in TEST_METRICS if name != metric]
    first = places[0]["variant"]
    pictures = {
        "What training sees: originals beside augmented copies": workspace.preview,
        f"{first}: confusion of the test images": _confusion(workspace.report(first)),
    }
    return Board(
        columns=("", "variant", *(name.replace("_", " ") for name in shown), "parameters"),
        rows=tuple(
            (
                place["rank"],
                place["variant"],
                *(_number(place, name) + _interval(place, name) for name in shown[:2]),
                *(_number(place, name) for name in shown[2:]),
                f"{int(place['parameters']):,}",
            )
            for place in places
        ),
        verdict=verdict,
        reports=tuple(
            (workspace.report(place["variant"]) / "report.html").relative_to(workspace.root)
            for place in places
        ),
        pictures=tuple((title, path) for title, path in pictures.items() if path.is_file()),
        mlflow=f"http://{settings.HOST}:{params.flow.ports.mlflow}",
        prefect=f"http://{settings.HOST}:{params.flow.ports.prefect}",
    )


def _number(place: dict[str, str], name: str) -> str:
    return f"{float(place[name]):.3f}" if place[name] else "–"


def _interval(place: dict[str, str], name: str) -> str:
    low, high = place[f"{name}_low"], place[f"{name}_high"]
    return f" ({float(low):.2f}–{float(high):.2f})" if low and high else ""


def _confusion(report: Path) -> Path:
    return next(iter(sorted(report.glob("*confusion*.png"))), report / "confusion.png")


def show(board: Board) -> None:
    """The table of the variants, the verdict, and where to go from here; to standard output."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    table = Table(title="Variants, best first", title_justify="left")
    for i, column in enumerate(board.columns):
        table.add_column(column, justify="left" if i == 1 else "right", no_wrap=i == 1)
    for row in board.rows:
        table.add_row(*row)
    console.print()
    console.print(table)
    for name, text in (
        ("registry", board.verdict),
        *(("report" if i == 0 else "", str(path)) for i, path in enumerate(board.reports)),
        ("web pages", f"make ui   (MLflow {board.mlflow}, Prefect {board.prefect})"),
    ):
        console.print(f"{name:10} {text}", soft_wrap=True)


def markdown(board: Board) -> str:
    """The artifact: the same as on the terminal, and small pictures inside the text."""
    lines = [
        "# Variants, best first",
        "",
        _row(board.columns),
        _row(["---"] * len(board.columns)),
        *(_row(row) for row in board.rows),
        "",
        f"**Registry**: {board.verdict}",
        "",
        "**Reports**, in the project's folder:",
        "",
        *(f"- `{path}`" for path in board.reports),
    ]
    for title, path in board.pictures:
        uri = _data_uri(path, PICTURES // len(board.pictures))
        lines += ["", f"## {title}", "", f"![{title}]({uri})"]
    return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _data_uri(path: Path, limit: int) -> str:
    """The picture at ``path`` as a data URI of at most ``limit`` characters, shrunk to fit."""
    from PIL import Image

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    side = 1200
    while True:
        image.thumbnail((side, side))
        content = io.BytesIO()
        image.save(content, "JPEG", quality=80, optimize=True)
        uri = f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
        if len(uri) <= limit or side < 64:
            return uri
        side = side * 3 // 4
