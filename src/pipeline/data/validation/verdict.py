"""What the checks found, and what follows from it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.validation.check import Check, in_words
from pipeline.data.validation.judge import Outcome
from pipeline.data.validation.reference import Comparison


@dataclass(frozen=True)
class Finding:
    """A check and its outcome. ``table`` is what was judged, derived columns included."""

    check: Check
    outcome: Outcome
    table: pd.DataFrame

    @property
    def failed(self) -> bool:
        return not self.outcome.success

    @property
    def critical(self) -> bool:
        return self.failed and self.check.severity == "critical"

    @property
    def count(self) -> int:
        """How many images, or columns, fail."""
        return len(self.outcome.failing)

    def names(self, limit: int | None = None) -> list[str]:
        """The first ``limit`` images, or columns, that fail."""
        return self.column(self.check.key, limit).tolist()

    def column(self, name: str, limit: int | None = None) -> pd.Series:
        """A column of the first ``limit`` rows that fail."""
        return self.table[name].iloc[self.outcome.failing[:limit]]

    def note(self, position: int) -> str:
        """The value behind the reason at a row of the table, in words; empty without one."""
        if self.check.detail is None:
            return ""
        value: Any = self.table[self.check.detail].iloc[position]
        return "" if pd.isna(value) else visible(self.check.wording(value))

    def reason(self, position: int) -> str:
        """Why this row fails: the check's reason and, where it has one, the value behind it."""
        note = self.note(position)
        return f"{self.check.reason} ({note})" if note else self.check.reason


@dataclass(frozen=True)
class Verdict:
    """All findings, the images set aside, and why the data is refused, if it is."""

    findings: tuple[Finding, ...]
    listed: int
    """How many images the table names."""
    unlisted: int
    accepted: pd.DataFrame
    """The manifest's rows that may be used; the index holds their places in the manifest."""
    budget: float
    comparisons: tuple[Comparison, ...] = field(default=())
    """The accepted images beside the reference, where there is one."""

    @cached_property
    def quarantined(self) -> dict[int, list[Finding]]:
        """The critical row findings of each image set aside, by its place in the manifest."""
        return _by_place(f for f in self.findings if f.critical and f.check.level == "row")

    @cached_property
    def left_out(self) -> dict[int, list[Finding]]:
        """As `quarantined`, with the unlisted files, which are not used either."""
        unlisted = [f for f in self.findings if f.failed and f.check.name == "unlisted"]
        return dict(sorted((_by_place(unlisted) | self.quarantined).items()))

    @cached_property
    def refusals(self) -> list[str]:
        """What stops the run, a sentence each; none where the data is accepted."""
        aside = len(self.quarantined)
        refusals = []
        if aside > self.budget * self.listed:
            refusals.append(
                f"{aside:,} of {self.listed:,} images fail a critical check, more than"
                f" {self.budget:.1%} (validation.quarantine_budget). Put them right and ingest the"
                " source again, or raise that share to go on without them."
            )
        refusals += [
            describe(finding)
            for finding in self.findings
            if finding.critical and (finding.check.level != "row" or refusals)
        ]
        if not refusals and self.accepted.empty:
            refusals.append("no image is left to use")
        return refusals

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": "refused" if self.refusals else "accepted",
            "refusals": self.refusals,
            "images": {
                "listed": self.listed,
                "accepted": len(self.accepted),
                "quarantined": len(self.quarantined),
                "unlisted": self.unlisted,
            },
            "classes": {
                str(k): int(v)
                for k, v in self.accepted["label"].value_counts().sort_index().items()
            },
            "checks": [
                {
                    "check": finding.check.name,
                    "level": finding.check.level,
                    "severity": finding.check.severity,
                    "success": finding.outcome.success,
                    "failing": finding.count,
                    "observed": finding.outcome.observed,
                }
                for finding in self.findings
            ],
            "drift": {
                comparison.name: {
                    "images": comparison.images,
                    "distance": round(comparison.distance, 6),
                    "by_chance": round(min(1.0, comparison.margin), 6),
                }
                for comparison in self.comparisons
            },
        }


def _by_place(findings: Iterable[Finding]) -> dict[int, list[Finding]]:
    found: dict[int, list[Finding]] = {}
    for finding in findings:
        for place in finding.outcome.failing.tolist():
            found.setdefault(place, []).append(finding)
    return dict(sorted(found.items()))


def describe(finding: Finding) -> str:
    """One finding for a message: check, reason, how many images of what, the first three, cure."""
    check = finding.check
    parts = [f"{check.name}: {check.reason}"]
    if finding.count:
        values = _most_frequent(finding) if check.detail else ""
        where = f" ({values})" if values else ""
        first = ", ".join(map(visible, finding.names(3))) + (", …" if finding.count > 3 else "")
        parts.append(f"{in_numbers(finding)}{where}: {first}")
    elif finding.outcome.observed is not None:
        parts.append(f"found {visible(in_words(finding.outcome.observed))}")
    return f"{'; '.join(parts)}. {check.remedy}"


def in_numbers(finding: Finding) -> str:
    """How many images, or columns, fail."""
    what = "column" if finding.check.level == "reference" else "image"
    return f"1 {what}" if finding.count == 1 else f"{finding.count:,} {what}s"


def _most_frequent(finding: Finding, limit: int = 3) -> str:
    values = finding.column(str(finding.check.detail)).dropna()
    if values.dtype.kind == "f" and values.nunique() > limit and finding.count > limit:
        ends = [finding.check.wording(float(end)) for end in (values.min(), values.max())]
        return " to ".join(ends)
    if finding.count == 1:
        return ", ".join(finding.note(place) for place in finding.outcome.failing.tolist())
    counts = values.value_counts().head(limit + 1)
    named = [f"{visible(finding.check.wording(v))} × {n:,}" for v, n in counts.head(limit).items()]
    return ", ".join(named) + (", …" if len(counts) > limit else "")


def visible(text: str) -> str:
    """``text`` with what a terminal or a browser would obey, such as a line break, an escape or a
    right-to-left mark, written as an escape."""
    return "".join(
        character
        if unicodedata.category(character)[0] not in "CZ" or character == " "
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def failing_mask(findings: Iterable[Finding], rows: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Marks the rows that a critical finding is about."""
    mask = np.zeros(rows, dtype=bool)
    for finding in findings:
        if finding.critical:
            mask[finding.outcome.failing] = True
    return mask
