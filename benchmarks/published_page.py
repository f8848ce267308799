"""``docs/published.md``: a row for every preset, from ``benchmarks/published``."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.published import PRESETS, PUBLISHED
from benchmarks.results import PROJECT
from pipeline.artifacts import read_json
from pipeline.presets.preset import Preset, preset_names, read_preset

PAGE = PROJECT / "docs" / "published.md"

_ABOUT = """\
What the presets of this project reach on the test images, beside the figures that were published.
Made by `make readme` from `benchmarks/published`; `make published PRESET=NAME` trains one anew.
Accuracies in per cent: the mean over seeds with its standard deviation, the seed that its
validation images choose, and a vote, the mean of all seeds' probabilities."""


def render() -> str:
    """The page's text."""
    presets = {name: read_preset(PRESETS, name).preset for name in preset_names(PRESETS)}
    results = {
        name: read_json(path) for name in presets if (path := PUBLISHED / f"{name}.json").exists()
    }
    lines = [
        "| preset | published | ours | chosen | vote | parameters | minutes a seed |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(_row(name, preset, results.get(name)) for name, preset in presets.items()),
    ]
    parts = ["# Published figures", _ABOUT, "\n".join(lines)]
    if results:
        parts += ["## Measured", "\n".join(_circumstances(results[name]) for name in results)]
    sources = [f"- `{name}`: {preset.figure.source}" for name, preset in presets.items()]
    return "\n\n".join([*parts, "## Sources", "\n".join(sources)]) + "\n"


def _row(name: str, preset: Preset, result: dict[str, Any] | None) -> str:
    begin = f"| `{name}`: {preset.title} | {preset.figure.accuracy:.2f} |"
    if result is None:
        return f"{begin} not yet run | | | | |"
    seeds = result["seeds"]
    spread = "" if result["spread"] is None else f" ± {_percent(result['spread'])}"
    vote = "" if result["vote"] is None else _percent(result["vote"])
    minutes = statistics.median(seed["minutes"] for seed in seeds)
    return (
        f"{begin} {_percent(result['mean']['accuracy'])}{spread} ({len(seeds)})"
        f" | {_percent(result['chosen_by_validation'])} | {vote} | {result['parameters']:,}"
        f" | {minutes:.1f} |"
    )


def _circumstances(result: dict[str, Any]) -> str:
    remark = f" {result['remark']}" if result.get("remark") else ""
    return (
        f"- `{result['name']}`: {result['device']}, torch {result['versions']['torch']}, commit"
        f" {result['commit']}, {result['date']}.{remark}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
