"""`make readme`: README.md's tables, docs/benchmarks.md and docs/published.md, from the results.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``. It is made from the results of
that name, by the function of that name in `TABLES` or else by `comparison`; without results it says
"not yet run". docs/benchmarks.md has every row of every result, docs/published.md a row for every
preset.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from benchmarks import published_page
from benchmarks.results import PROJECT, RESULTS
from pipeline.artifacts import read_json, write_text

README = PROJECT / "README.md"
ALL = PROJECT / "docs" / "benchmarks.md"


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


def comparison(result: dict[str, Any]) -> str:
    """The rows that have a peer, medians beside each other."""
    lines = ["| | ours | peer | | ratio |", "|---|--:|--:|---|--:|"]
    for row in result["rows"]:
        if row["peer_name"] is not None:
            ours, peer = (_value(row[who], row["unit"]) for who in ("ours", "peer"))
            ratio = _ratio(row)
            name = f"{row['case']}: {row['metric']}"
            lines.append(f"| {name} | {ours} | {peer} | {row['peer_name']} | {ratio} |")
    return "\n".join([*lines, "", _note(result)])


def _all_rows(result: dict[str, Any]) -> str:
    lines = ["| | ours | range | peer | | ratio |", "|---|--:|--:|--:|---|--:|"]
    for row in result["rows"]:
        ends = [_value(row[end], "") for end in ("low", "high") if row[end] is not None]
        peer = "" if row["peer"] is None else _value(row["peer"], row["unit"])
        ratio = _ratio(row)
        lines.append(
            f"| {row['case']}: {row['metric']} | {_value(row['ours'], row['unit'])}"
            f" | {' – '.join(ends)} | {peer} | {row['peer_name'] or ''} | {ratio} |"
        )
    return "\n".join([*lines, "", _note(result)])


def _value(value: float, unit: str) -> str:
    digits = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return digits if unit == "1/s" else f"{digits} {unit}".rstrip()  # the metric says per second


def _ratio(row: dict[str, Any]) -> str:
    ratio = row["ratio"]
    if ratio is None:
        return ""
    return f"{ratio:,.0f}" if ratio >= 1000 else f"{ratio:.3g}"


def _note(result: dict[str, Any]) -> str:
    repeats = max(row["repeats"] for row in result["rows"])
    several = f"medians of {repeats}, interleaved" if repeats > 1 else "one run"
    remark = f" {result['remark']}" if result.get("remark") else ""
    return (
        f"{result['device']}, {several}; commit {result['commit']}, {result['date']}; a ratio above"
        f" 1 means that ours is better.{remark}"
    )


def near(result: dict[str, Any]) -> str:
    """All kinds of copies together; docs/benchmarks.md has each."""
    rows = [row for row in result["rows"] if "planted copies, " not in row["case"]]
    return comparison(result | {"rows": rows})


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {"main-run": main_run, "data-near": near}


def render(text: str) -> str:
    """``text`` with every table made anew."""

    def table(match: re.Match[str]) -> str:
        name = match[1]
        path = RESULTS / f"{name}.json"
        make = TABLES.get(name, comparison)
        body = make(read_json(path)) if path.exists() else "*not yet run*"
        return f"<!-- table: {name} -->\n{body}\n<!-- end -->"

    return re.sub(r"<!-- table: ([\w-]+) -->.*?<!-- end -->", table, text, flags=re.DOTALL)


_ABOUT = """\
Made by `make readme` from `benchmarks/results`. A range is the least and the largest of the
repeats, or a confidence interval. `make bench-run`, `make bench-data`, `make bench-train` and
`make bench-evaluate` measure anew."""


def all_results() -> str:
    """docs/benchmarks.md"""
    parts = ["# Benchmarks", _ABOUT]
    for path in sorted(RESULTS.glob("*.json")):
        result = read_json(path)
        parts += [f"## {result['name']}", _all_rows(result)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    write_text(README, render(README.read_text(encoding="utf-8")))
    write_text(ALL, all_results())
    write_text(published_page.PAGE, published_page.render())


if __name__ == "__main__":
    main()
