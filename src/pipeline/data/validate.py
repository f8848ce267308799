"""Stage validate: judge the manifest, set bad images aside, refuse data that is unusable."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from PIL import Image, ImageMode

from pipeline.artifacts import read_json, replacing, replacing_folder, write_json
from pipeline.console import logger
from pipeline.data.check import Level
from pipeline.data.checks import CHECKS, suite, with_derived
from pipeline.data.decode import FORMATS
from pipeline.data.judge import Judge
from pipeline.data.manifest import extra_columns, read_table, to_frame, write_table
from pipeline.data.quarantine_page import render
from pipeline.data.verdict import Finding, Verdict, describe
from pipeline.errors import ConfigurationError, DataRefused, PipelineError, did_you_mean
from pipeline.params import ValidationParams
from pipeline.workspace import Workspace


def validate(workspace: Workspace, params: ValidationParams, *, group: str | None) -> None:
    """Write the accepted rows, the quarantine and the report; see `pipeline.data.checks`.

    ``group`` is ``split.group``. No image is deleted or moved. Of refused data only a report is
    left, in ``.pipeline/validation``, because a stage's outputs are there only if it succeeds.

    Raises:
        DataRefused: a critical dataset check fails, or more images than the budget allows fail a
            critical row check. The message names checks, images, remedies and the page.
        ConfigurationError: ``validation`` or ``split.group`` names what does not exist.
        PipelineError: the manifest or ``data/classes.json`` is missing.
    """
    table = read_table(workspace.manifest)
    check_settings(params, group, columns=["group", *extra_columns(table)])
    manifest = to_frame(table)
    judge = Judge()
    verdict = reach_verdict(judge, manifest, params, group, read_classes(workspace.classes))
    refused = bool(verdict.refusals)
    folder = workspace.state / "validation" if refused else workspace.validation
    with replacing_folder(folder) as new:
        write_json(new / "result.json", verdict.to_json())
        (new / "index.html").write_text(render(verdict, workspace.data, params), encoding="utf-8")
        judge.write_docs(new / "docs")
    page = folder / "index.html"
    if refused:
        _write_quarantine(folder / "quarantine.csv", verdict)
        raise DataRefused(_refusal(verdict, page))
    accepted = pa.array(manifest["file_name"].isin(verdict.accepted["file_name"]))
    write_table(workspace.accepted, table.filter(accepted))
    _write_quarantine(workspace.quarantine, verdict)
    _summarise(verdict, page.relative_to(workspace.root))


def reach_verdict(
    judge: Judge,
    manifest: pd.DataFrame,
    params: ValidationParams,
    group: str | None,
    classes: list[str],
) -> Verdict:
    """Judge every row, then, on the rows that may be used, the data set as a whole."""

    def findings(level: Level, rows: pd.DataFrame) -> list[Finding]:
        prepared = with_derived(rows, level, group)
        outcomes = judge.judge(suite(level, params, group), prepared, {"classes": classes})
        by_name = prepared.set_index("file_name", drop=False)
        checks = {check.name: check for check in CHECKS}
        return [
            Finding(checks[outcome.check], outcome, by_name.loc[list(outcome.failing)])
            for outcome in outcomes
        ]

    of_rows = findings("row", manifest)
    aside = {name for found in of_rows if found.critical for name in found.outcome.failing}
    usable = (manifest["status"] == "ok") & ~manifest["file_name"].isin(aside)
    accepted = manifest[usable]
    of_dataset = [] if accepted.empty else findings("dataset", accepted)
    unlisted = int((manifest["status"] == "unlisted").sum())
    return Verdict(
        findings=(*of_rows, *of_dataset),
        listed=len(manifest) - unlisted,
        unlisted=unlisted,
        accepted=accepted,
        budget=params.quarantine_budget,
    )


def check_settings(params: ValidationParams, group: str | None, columns: list[str]) -> None:
    """Refuse settings that name a format, a pixel mode or a column which does not exist."""
    for name in params.formats:
        if name not in {*FORMATS, "MPO"}:
            raise ConfigurationError(
                f"params.yaml: validation.formats: '{name}' is not a format that is read here, only"
                f" {', '.join(FORMATS)}, MPO{did_you_mean(name.upper(), FORMATS)}"
            )
    for mode in params.modes:
        try:
            ImageMode.getmode(mode)
        except KeyError:
            raise ConfigurationError(
                f"params.yaml: validation.modes: '{mode}' is not one of Pillow's pixel modes"
                f" ({', '.join(Image.MODES)}){did_you_mean(mode.upper(), Image.MODES)}"
            ) from None
    if group is not None and group not in columns:
        raise ConfigurationError(
            f"params.yaml: split.group: data/metadata.csv has no column '{group}', only"
            f" {', '.join(columns)}{did_you_mean(group, columns)}"
        )


def read_classes(path: Path) -> list[str]:
    """The class names of ``data/classes.json``; a class's place in it is its target."""
    if not path.exists():
        raise PipelineError(
            f"{path}: missing; run 'python -m pipeline data restore' for the project's data, or"
            " 'python -m pipeline ingest PATH' for your own"
        )
    try:
        content = read_json(path)
    except ValueError as error:
        raise DataRefused(f"{path}: not valid JSON ({error}); ingest the source anew") from error
    names = content.get("classes") if isinstance(content, Mapping) else None
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) != len(names)
    ):
        raise DataRefused(
            f'{path}: expected {{"classes": ["a", "b"]}} with different names, found {content!r};'
            " ingest the source anew"
        )
    return names


def _write_quarantine(path: Path, verdict: Verdict) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file_name", "label", "reasons", "remedy"))
        for name, findings in verdict.left_out.items():
            label: Any = findings[0].rows.at[name, "label"]
            writer.writerow(
                (
                    name,
                    "" if pd.isna(label) else label,
                    "; ".join(finding.reason(name) for finding in findings),
                    " ".join(finding.check.remedy for finding in findings),
                )
            )


def _refusal(verdict: Verdict, page: Path) -> str:
    lines = [f"  {refusal}" for refusal in verdict.refusals]
    return "\n".join(["the data is refused:", *lines, f"every image and reason: {page}"])


def _summarise(verdict: Verdict, page: Path) -> None:
    for finding in verdict.findings:
        if finding.failed and finding.check.severity == "warning":
            logger.warning("warning: %s", describe(finding))
    logger.info(
        "validate: %s of %s images accepted, %s set aside → %s",
        f"{len(verdict.accepted):,}",
        f"{verdict.listed:,}",
        f"{len(verdict.quarantined):,}",
        page,
    )
