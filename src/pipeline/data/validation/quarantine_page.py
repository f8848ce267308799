"""The page of a validation: verdict, checks, and a picture of what failed, in one file."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.decode import DecodeError, open_image
from pipeline.data.validation.drift_chart import HEIGHT, WIDTH, draw
from pipeline.data.validation.verdict import Finding, Verdict, in_numbers, visible
from pipeline.params import ValidationParams

_PICTURES = 160
_LEAST_PICTURES = 6
_SIDE = 160  # pixels
_MAX_PIXELS = 16_000_000
_WEB_MODES = {"L", "RGB"}

Picture = Callable[[str], str]


def render(verdict: Verdict, data: Path, params: ValidationParams) -> str:
    """The page as HTML without any reference outside itself; ``data`` holds the images."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    failed = [finding for finding in verdict.findings if finding.failed]
    failed.sort(key=lambda finding: not finding.critical)
    each = max(_LEAST_PICTURES, _PICTURES // max(1, len(failed)))
    picture = functools.cache(lambda file_name: _thumbnail(data / file_name))
    return environment.get_template("quarantine_page.html").render(
        verdict="refused" if verdict.refusals else "accepted",
        refusals=verdict.refusals,
        figures=_figures(verdict),
        findings=[_row(finding, params) for finding in verdict.findings],
        failures=[_failure(finding, each, picture, failed) for finding in failed],
        classes=_classes(verdict),
        drifts=_drifts(verdict, params.max_drift),
        box=(WIDTH, HEIGHT),
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
        "count": f"{finding.count:,}" if finding.count else "–",
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


def _failure(
    finding: Finding, pictures: int, picture: Picture, failed: list[Finding]
) -> dict[str, Any]:
    places = [] if finding.check.level == "reference" else _shown(finding, pictures)
    rest = finding.count - len(places)
    return {
        "name": finding.check.name,
        "reason": finding.check.reason[:1].upper() + finding.check.reason[1:],
        "remedy": finding.check.remedy,
        "outcome": _outcome(finding),
        "count": in_numbers(finding) if finding.count else f"found {finding.outcome.observed}",
        "beside": finding.check.cluster is not None,
        "clusters": _side_by_side(
            finding, places, [_tile(finding, place, picture, failed) for place in places]
        ),
        "columns": _columns(finding),
        "more": f"{rest:,}" if places and rest else "",
    }


def _shown(finding: Finding, pictures: int) -> list[int]:
    """The places of the images to show, those of a cluster one after the other."""
    failing = finding.outcome.failing
    if finding.check.cluster is not None:
        clusters = finding.table[finding.check.cluster].to_numpy()[failing]
        failing = failing[np.argsort(clusters, kind="stable")]
    return failing[:pictures].tolist()


def _side_by_side(
    finding: Finding, places: list[int], tiles: list[dict[str, Any]]
) -> list[list[dict[str, Any]]]:
    """The tiles by their clusters; all in one where the check is not about clusters."""
    if finding.check.cluster is None:
        return [tiles] if tiles else []
    found: dict[int, list[dict[str, Any]]] = {}
    clusters = finding.table[finding.check.cluster].iloc[places]
    for cluster, tile in zip(clusters, tiles, strict=True):
        found.setdefault(int(cluster), []).append(tile)
    return list(found.values())


def _tile(finding: Finding, place: int, picture: Picture, failed: list[Finding]) -> dict[str, Any]:
    row = finding.table.iloc[place]
    others = [
        other.check.name
        for other in failed
        if finding.check.level == other.check.level == "row"
        and other is not finding
        and _contains(other.outcome.failing, place)
    ]
    return {
        "file_name": row["file_name"],
        "label": "" if pd.isna(row["label"]) else row["label"],
        "note": "" if finding.check.detail == "label" else finding.note(place),
        "others": ", ".join(others),
        # A file that no scan has survived is not opened here either.
        "source": picture(row["file_name"]) if row["status"] == "ok" else "",
    }


def _contains(ascending: NDArray[np.int64], value: int) -> bool:
    place = int(np.searchsorted(ascending, value))
    return place < len(ascending) and int(ascending[place]) == value


def _columns(finding: Finding) -> list[str]:
    if finding.check.level != "reference":
        return []
    pairs = zip(finding.names(), finding.outcome.failing.tolist(), strict=True)
    return [f"{name} ({note})" if (note := finding.note(at)) else name for name, at in pairs]


def _drifts(verdict: Verdict, allowed: float) -> list[dict[str, Any]]:
    """The comparisons with the reference, those that moved most first."""
    ordered = sorted(verdict.comparisons, key=lambda item: (-item.drift, item.name))
    return [
        {
            "name": item.name,
            "images": f"{item.images:,}",
            "distance": f"{item.distance:.1%}",
            "margin": f"{item.margin:.1%}" if item.margin < 1.0 else "anything",
            "outcome": "drifted" if item.drift > allowed else "as before",
            "group": 0 if item.drift > allowed else 1,  # those that drifted stand first
            "chart": draw(item),
        }
        for item in ordered
    ]


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
