"""The page of a validation: verdict, checks, and a picture of what failed, in one file."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from pipeline.data.decode import DecodeError, open_image
from pipeline.data.verdict import Finding, Verdict, count_images
from pipeline.params import ValidationParams

_PICTURES = 100
_SIDE = 160  # pixels
_MAX_PIXELS = 50_000_000
_WEB_MODES = {"L", "RGB"}


def render(verdict: Verdict, data: Path, params: ValidationParams) -> str:
    """The page as HTML without any reference outside itself; ``data`` holds the images."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    failed = [finding for finding in verdict.findings if finding.failed]
    failed.sort(key=lambda finding: not finding.critical)
    each = _PICTURES // max(1, len(failed))
    return environment.get_template("quarantine_page.html").render(
        verdict="refused" if verdict.refusals else "accepted",
        refusals=verdict.refusals,
        figures=_figures(verdict),
        findings=[_row(finding, params) for finding in verdict.findings],
        failures=[_failure(finding, data, each) for finding in failed],
        classes=_classes(verdict),
    )


def _figures(verdict: Verdict) -> list[tuple[str, str]]:
    return [
        (f"{verdict.listed:,}", "images listed"),
        (f"{len(verdict.accepted):,}", "accepted"),
        (f"{len(verdict.quarantined):,}", f"set aside (budget {verdict.budget:.1%})"),
        (f"{verdict.unlisted:,}", "files not listed"),
    ]


def _row(finding: Finding, params: ValidationParams) -> dict[str, Any]:
    arguments = finding.check.configuration(params)["kwargs"]
    wanted = ", ".join(_argument(key, arguments[key]) for key in arguments if key != "column")
    expectation = finding.check.expectation.removeprefix("expect_column_").replace("_", " ")
    return {
        "name": finding.check.name,
        "asks": f"{finding.check.column}: {expectation}{f' [{wanted}]' if wanted else ''}",
        "level": finding.check.level,
        "count": f"{len(finding.outcome.failing):,}" if finding.outcome.failing else "–",
        "outcome": _outcome(finding),
    }


def _argument(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return "data/classes.json"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return {"min_value": "≥ ", "max_value": "≤ "}.get(key, "") + text


def _outcome(finding: Finding) -> str:
    if not finding.failed:
        return "passed"
    return "failed" if finding.critical else "warned"


def _failure(finding: Finding, data: Path, pictures: int) -> dict[str, Any]:
    names = finding.outcome.failing
    return {
        "name": finding.check.name,
        "reason": finding.check.reason[:1].upper() + finding.check.reason[1:],
        "remedy": finding.check.remedy,
        "outcome": _outcome(finding),
        "count": count_images(len(names)) if names else f"found {finding.outcome.observed}",
        "tiles": [_tile(finding, name, data) for name in names[:pictures]],
        "more": f"{len(names) - pictures:,}" if len(names) > pictures else "",
    }


def _tile(finding: Finding, file_name: str, data: Path) -> dict[str, str]:
    row = finding.rows.loc[file_name]
    detail = row[finding.check.detail] if finding.check.detail else None
    about = [row["label"], None if finding.check.detail == "label" else detail]
    said = [f"{item:g}" if isinstance(item, float) else str(item) for item in about if item == item]
    return {
        "file_name": file_name,
        "note": " · ".join(text for text in said if text != "None"),
        "source": _thumbnail(data / file_name) if row["status"] in {"ok", "unlisted"} else "",
    }


def _thumbnail(path: Path) -> str:
    """The image as a data URI of at most `_SIDE` pixels a side; empty if it cannot be shown."""
    try:
        image = open_image(path.read_bytes(), max_pixels=_MAX_PIXELS)
        if image.mode not in _WEB_MODES:
            image = image.convert("RGB")
    except (DecodeError, OSError, ValueError):
        return ""
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _classes(verdict: Verdict) -> list[tuple[str, int, int]]:
    counts = verdict.accepted["label"].value_counts().sort_index()
    largest = max(counts, default=1)
    return [(str(name), int(count), round(100 * count / largest)) for name, count in counts.items()]
