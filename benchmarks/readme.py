"""`make readme`: fill README.md's tables from ``benchmarks/results``.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``, and is made by the function of
that name in `TABLES`; without its results it says "not yet run".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from benchmarks.results import PROJECT, RESULTS
from pipeline.artifacts import read_json, write_text

README = PROJECT / "README.md"


def main_run(result: dict[str, Any]) -> str:
    """The variants on the test images, and how long the whole run took."""
    figures = {(row["case"], row["metric"]): row for row in result["rows"]}
    variants = dict.fromkeys(case for case, metric in figures if metric == "parameters")
    lines = [
        "| variant | parameters | accuracy | balanced accuracy | AUROC | confidence-weighted |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for variant in variants:
        cells = [
            _percent(figures[variant, f"test {metric}"])
            for metric in ("accuracy", "balanced_accuracy", "auroc", "weighted_accuracy")
        ]
        parameters = f"{figures[variant, 'parameters']['ours'] / 1e6:.2f} M"
        lines.append(f"| `{variant}` | {parameters} | {' | '.join(cells)} |")
    seconds = figures["make run, from data to champion", "wall time"]["ours"]
    versions = result["versions"]
    note = (
        f"Test images, 95 % intervals. The whole run took {seconds / 60:.1f} minutes on "
        f"{result['device']} (commit {result['commit']}, torch {versions['torch']}, one run)."
    )
    if remark := result.get("remark"):
        note = f"{note} {remark}"
    return "\n".join([*lines, "", note])


def _percent(row: dict[str, Any]) -> str:
    return f"{row['ours']:.1%} ({row['low']:.1%} – {row['high']:.1%})".replace("%", " %")


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {"main-run": main_run}


def render(text: str) -> str:
    """``text`` with every table made anew."""

    def table(match: re.Match[str]) -> str:
        name = match[1]
        path = RESULTS / f"{name}.json"
        body = TABLES[name](read_json(path)) if path.exists() else "*not yet run*"
        return f"<!-- table: {name} -->\n{body}\n<!-- end -->"

    return re.sub(r"<!-- table: ([\w-]+) -->.*?<!-- end -->", table, text, flags=re.DOTALL)


def main() -> None:
    write_text(README, render(README.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
