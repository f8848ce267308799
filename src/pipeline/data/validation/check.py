"""What a check is; `pipeline.data.validation.checks` holds the checks themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from pipeline.params import ValidationParams

Level = Literal["row", "dataset", "reference"]
Severity = Literal["critical", "warning"]
Derive = Callable[[pd.DataFrame, str | None], pd.Series]


def in_words(value: Any) -> str:
    """A cell of a table, as a message shows it."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


@dataclass(frozen=True)
class Check:
    """One question to the data.

    Attributes:
        name: what the suite, the pages, the messages and ``validation.severity`` call it.
        level: ``row``, ``dataset`` or ``reference``. A row check sets images aside, the others stop
            the run; one of ``reference`` judges the columns of `reference.compare`.
        severity: what fails a ``critical`` check is not used; a ``warning`` is only shown.
        column: the column it judges: the manifest's, or the one ``derive`` makes.
        expectation: Great Expectations' type. A value that is null never fails, except where the
            expectation is about nulls.
        arguments: what the expectation is told beyond the column.
        reason: what is wrong with an image, or with the data, that fails.
        remedy: what to do about it.
        derive: ``(manifest, name of the group column) -> values``, a value for each row.
        detail: a column whose value says more about the reason.
        wording: turns a value of ``detail`` into words.
        cluster: a column; images that fail and are equal in it belong side by side.
        applies: whether the check is asked at all, given the name of the group column.
        fixed: a later stage cannot do without it, so its severity is no setting.
        counterexample: values of the first rows of a sound manifest that break it, for the tests.
    """

    name: str
    level: Level
    severity: Severity
    column: str
    expectation: str
    arguments: Callable[[ValidationParams], Mapping[str, Any]]
    reason: str
    remedy: str
    counterexample: Mapping[str, Sequence[Any]]
    derive: Derive | None = None
    detail: str | None = None
    wording: Callable[[Any], str] = in_words
    cluster: str | None = None
    applies: Callable[[str | None], bool] = lambda _: True
    fixed: bool = False

    @property
    def key(self) -> str:
        """The column that names what was judged."""
        return "column" if self.level == "reference" else "file_name"

    def configuration(self, params: ValidationParams) -> dict[str, Any]:
        """The expectation as Great Expectations writes it in a suite."""
        return {
            "type": self.expectation,
            "kwargs": {"column": self.column} | _plain(self.arguments(params)),
            "severity": self.severity,
            "meta": {"check": self.name, "reason": self.reason, "remedy": self.remedy},
        }


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """``arguments`` of JSON's own types, so that the committed suite compares equal."""
    return {
        key: dict(value)
        if isinstance(value, Mapping)
        else list(value)
        if isinstance(value, tuple)
        else value
        for key, value in arguments.items()
    }
