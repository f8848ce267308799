"""``docs/published.md``: a row for every preset, from ``benchmarks/published``."""

from __future__ import annotations

import statistics
from typing import Any

from scipy import stats

from benchmarks import ablations
from benchmarks.published import PRESETS, PUBLISHED
from benchmarks.results import PROJECT
from pipeline.artifacts import read_json
from pipeline.presets.preset import Preset, preset_names, read_preset

PAGE = PROJECT / "docs" / "published.md"

_ABOUT = """\
What the presets of this project reach on the test images, beside the figures that were published.
Made by `make readme` from `benchmarks/published`; `make published PRESET=NAME` trains one anew, and
`make ablations` the blocks. Accuracies in per cent: the mean over seeds with its standard
deviation, the seed that its validation images choose, and a vote, the mean of all seeds'
probabilities. Weighted: each image counts by its weight, as Deitsch et al. count a cell by how sure
the experts were."""


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
    if (path := PUBLISHED / f"{ablations.NAME}.json").exists():
        parts.append(_ablations(read_json(path)))
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
    mean = result["mean"]
    weighted = ""
    if mean["weighted_accuracy"] != mean["accuracy"]:
        weighted = f", weighted {_percent(mean['weighted_accuracy'])}"
    return (
        f"{begin} {_percent(mean['accuracy'])}{spread} ({len(seeds)}){weighted}"
        f" | {_percent(result['chosen_by_validation'])} | {vote} | {result['parameters']:,}"
        f" | {minutes:.1f} |"
    )


def _ablations(result: dict[str, Any]) -> str:
    seeds = len(result["seeds"])
    parts = [
        "## Blocks",
        f"The network of `{result['base']}` with one block exchanged, {result['epochs']} epochs and"
        f" {seeds} seeds each: the mean accuracy on the test images in per cent and its 95 %"
        " interval by Student's t, which includes the seeds' chance and not that of the images. "
        + _measured(result),
    ]
    for block, choices in result["blocks"].items():
        lines = [
            f"| {block} | accuracy | interval | parameters | minutes a seed |",
            "|---|--:|--:|--:|--:|",
            *(_block(choice, row) for choice, row in choices.items()),
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _block(choice: str, row: dict[str, Any]) -> str:
    accuracies = row["accuracies"]
    mean = statistics.fmean(accuracies)
    interval = ""
    if len(accuracies) > 1:
        half = stats.t.ppf(0.975, len(accuracies) - 1) * stats.sem(accuracies)
        interval = f"{_percent(mean - half)} – {_percent(mean + half)}"
    return (
        f"| `{choice}` | {_percent(mean)} | {interval} | {row['parameters']:,}"
        f" | {row['minutes']:.1f} |"
    )


def _circumstances(result: dict[str, Any]) -> str:
    remark = f" {result['remark']}" if result.get("remark") else ""
    return f"- `{result['name']}`: {_measured(result)}{remark}"


def _measured(result: dict[str, Any]) -> str:
    return (
        f"{result['device']}, torch {result['versions']['torch']}, commit {result['commit']},"
        f" {result['date']}."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
