"""Stage validate: judge the manifest, set bad images aside, refuse data that is unusable."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
from PIL import Image, ImageMode

from pipeline.artifacts import read_json, replacing, replacing_folder, write_json
from pipeline.console import logger
from pipeline.data.decode import FORMATS
from pipeline.data.manifest import extra_columns, read_table, to_frame, write_table
from pipeline.data.validation.check import Level
from pipeline.data.validation.checks import asked, check_severities, suite, with_derived
from pipeline.data.validation.judge import Judge
from pipeline.data.validation.quarantine_page import render
from pipeline.data.validation.reference import (
    Comparison,
    Reference,
    compare,
    read_reference,
    to_table,
    write_reference,
)
from pipeline.data.validation.verdict import Finding, Verdict, describe, failing_mask
from pipeline.errors import ConfigurationError, DataRefused, PipelineError, did_you_mean
from pipeline.params import ValidationParams
from pipeline.workspace import Workspace


def validate(workspace: Workspace, params: ValidationParams, *, group: str | None) -> None:
    """Write the accepted rows, the quarantine and the report; see `validation.checks`.

    ``group`` is ``split.group``. No image is deleted or moved. Of refused data only a report is
    left, in ``.pipeline/validation``, because a stage's outputs are there only if it succeeds.

    Raises:
        DataRefused: a critical dataset or reference check fails, or more images than the budget
            allows fail a critical row check. The message names checks, images, remedies, the page.
        ConfigurationError: ``validation`` or ``split.group`` names what does not exist.
        PipelineError: the manifest or ``data/classes.json`` is missing.
    """
    table = read_table(workspace.manifest)
    _check_settings(params, group, columns=["group", *extra_columns(table)])
    classes = read_classes(workspace.classes)
    reference = _reference(workspace.reference, classes)
    judge = Judge()
    verdict = reach_verdict(judge, _to_judge(table), params, group, classes, reference)
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
    write_table(workspace.accepted, table.take(pa.array(verdict.accepted.index)))
    _write_quarantine(workspace.quarantine, verdict)
    _summarise(verdict, page.relative_to(workspace.root))


def accept_reference(workspace: Workspace, params: ValidationParams, *, group: str | None) -> None:
    """Make the images that pass the checks the reference; see `pipeline.data.validation.reference`.

    The manifest is judged anew, without a reference, so that data which is refused for being
    different from the old one can become the new one.

    Raises:
        DataRefused: the data is refused for another reason.
        ConfigurationError, PipelineError: as `validate`.
    """
    table = read_table(workspace.manifest)
    _check_settings(params, group, columns=["group", *extra_columns(table)])
    classes = read_classes(workspace.classes)
    verdict = reach_verdict(Judge(), _to_judge(table), params, group, classes, None)
    if verdict.refusals:
        lines = "".join(f"\n  {refusal}" for refusal in verdict.refusals)
        raise DataRefused(f"data that is refused cannot become the reference:{lines}")
    write_reference(workspace.reference, Reference.of(verdict.accepted))
    logger.info(
        "reference.json: written from %s images; commit it, and later data is compared with it",
        f"{len(verdict.accepted):,}",
    )


def forget_reference(workspace: Workspace) -> None:
    """Leave a ``reference.json`` that holds no reference: later data is compared with nothing."""
    write_reference(workspace.reference, None)
    logger.info("reference.json: emptied; data is compared with no reference from now on")


def reach_verdict(
    judge: Judge,
    manifest: pd.DataFrame,
    params: ValidationParams,
    group: str | None,
    classes: list[str],
    reference: Reference | None,
) -> Verdict:
    """Judge every row; then, on the rows that may be used, the data set as a whole; then how these
    differ from the ``reference``. The index of ``manifest`` counts from 0."""
    checks = asked(params, group)

    def findings(level: Level, rows: pd.DataFrame) -> list[Finding]:
        prepared = with_derived(rows, level, checks, group)
        outcomes = judge.judge(suite(level, checks, params), prepared, {"classes": classes})
        by_name = {check.name: check for check in checks}
        return [Finding(by_name[outcome.check], outcome, prepared) for outcome in outcomes]

    found = findings("row", manifest)
    usable = (manifest["status"] == "ok").to_numpy() & ~failing_mask(found, len(manifest))
    accepted = manifest[usable]
    comparisons: list[Comparison] = []
    if not accepted.empty:
        found += findings("dataset", accepted.reset_index(drop=True))
    if not accepted.empty and reference is not None:
        comparisons = compare(reference, accepted, group)
        found += findings("reference", to_table(reference, accepted, comparisons))
    unlisted = int((manifest["status"] == "unlisted").sum())
    return Verdict(
        findings=tuple(found),
        listed=len(manifest) - unlisted,
        unlisted=unlisted,
        accepted=accepted,
        budget=params.quarantine_budget,
        comparisons=tuple(comparisons),
    )


def _to_judge(table: pa.Table) -> pd.DataFrame:
    """The manifest without the long columns that no check reads."""
    unread = [name for name in ("pixel_hash", "phash") if name in table.column_names]
    return to_frame(table.drop_columns(unread))


def _reference(path: Path, classes: list[str]) -> Reference | None:
    """The reference to compare with; ``None``, and a hint, where there is none for such data."""
    reference = read_reference(path)
    if reference is not None and reference.knows_a_class_of(classes):
        return reference
    logger.info(
        "validate: %s, so the data is compared with nothing; once it is as it should be,"
        " 'python -m pipeline data accept-reference' makes it what later data is compared with",
        "there is no reference" if reference is None else f"{path.name} is about other classes",
    )
    return None


def check_names(params: ValidationParams) -> None:
    """Refuse settings that name a format, pixel mode or check which does not exist."""
    check_severities(params.severity)
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


def _check_settings(params: ValidationParams, group: str | None, columns: list[str]) -> None:
    """`check_names`, and the column of the data that ``split.group`` names."""
    check_names(params)
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
        if not verdict.left_out:
            return
        judged = next(iter(verdict.left_out.values()))[0].table.iloc[list(verdict.left_out)]
        labels = judged["label"].fillna("")
        left_out = zip(judged["file_name"], labels, verdict.left_out.items(), strict=True)
        for name, label, (place, findings) in left_out:
            reasons = "; ".join(finding.reason(place) for finding in findings)
            remedies = " ".join(finding.check.remedy for finding in findings)
            writer.writerow((name, label, reasons, remedies))


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
