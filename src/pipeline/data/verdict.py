"""What the checks found, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.data.check import Check
from pipeline.data.judge import Outcome


@dataclass(frozen=True)
class Finding:
    """A check and its outcome. ``rows`` are the manifest's, derived columns included."""

    check: Check
    outcome: Outcome
    rows: pd.DataFrame
    """The failing rows, indexed by ``file_name``."""

    @property
    def failed(self) -> bool:
        return not self.outcome.success

    @property
    def critical(self) -> bool:
        return self.failed and self.check.severity == "critical"

    def reason(self, file_name: str) -> str:
        """Why this image fails: the check's reason and, where it has one, the value behind it."""
        if self.check.detail is None:
            return self.check.reason
        value: Any = self.rows.at[file_name, self.check.detail]
        if pd.isna(value):
            return self.check.reason
        return f"{self.check.reason} ({_text(value)})"


@dataclass(frozen=True)
class Verdict:
    """All findings, the images set aside, and why the data is refused, if it is."""

    findings: tuple[Finding, ...]
    listed: int
    """How many images the table names."""
    unlisted: int
    accepted: pd.DataFrame
    """The manifest's rows that may be used."""
    budget: float

    @property
    def quarantined(self) -> dict[str, list[Finding]]:
        """The critical row findings of each image set aside, by ``file_name``, sorted."""
        aside: dict[str, list[Finding]] = {}
        for finding in self.findings:
            if finding.critical and finding.check.level == "row":
                for file_name in finding.outcome.failing:
                    aside.setdefault(file_name, []).append(finding)
        return dict(sorted(aside.items()))

    @property
    def left_out(self) -> dict[str, list[Finding]]:
        """As `quarantined`, with the unlisted files, which are not used either."""
        out = dict(self.quarantined)
        for finding in self.findings:
            if finding.failed and finding.check.name == "listed":
                out |= {name: [finding] for name in finding.outcome.failing}
        return dict(sorted(out.items()))

    @property
    def refusals(self) -> list[str]:
        """What stops the run, a sentence each; none where the data is accepted."""
        aside = len(self.quarantined)
        refusals = []
        if aside > self.budget * self.listed:
            refusals.append(
                f"{aside:,} of {self.listed:,} images fail a critical check, more than"
                f" {self.budget:.1%} (validation.quarantine_budget)"
            )
        refusals += [
            describe(finding)
            for finding in self.findings
            if finding.critical and (finding.check.level == "dataset" or refusals)
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
                    "failing": len(finding.outcome.failing),
                    "observed": finding.outcome.observed,
                }
                for finding in self.findings
            ],
        }


def describe(finding: Finding) -> str:
    """One finding for a message: check, reason, how many images of what, the first three, cure."""
    check, failing = finding.check, finding.outcome.failing
    parts = [f"{check.name}: {check.reason}"]
    if failing:
        values = _most_frequent(finding.rows[check.detail]) if check.detail else ""
        where = f" ({values})" if values else ""
        parts.append(f"{count_images(len(failing))}{where}: {_first(failing)}")
    elif finding.outcome.observed is not None:
        parts.append(f"found {_text(finding.outcome.observed)}")
    return f"{'; '.join(parts)}. {check.remedy}"


def _most_frequent(values: pd.Series, limit: int = 3) -> str:
    counts = values.dropna().map(_text).value_counts()
    named = [f"{value} × {count:,}" for value, count in list(counts.items())[:limit]]
    return ", ".join(named) + (", …" if len(counts) > limit else "")


def _first(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")


def count_images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
