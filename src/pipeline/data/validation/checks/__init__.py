"""What is asked of the data. A new check is one more entry in a table here, and nothing else.

Each check is a Great Expectations expectation on one column: of the manifest, derived from it, or
of the comparison with the reference. Row checks judge every image; those that fail a critical one
are set aside. Dataset checks judge what is left, and reference checks how that differs from the
data last accepted; a critical one that fails stops the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from pipeline.data.validation.check import Check, Level
from pipeline.data.validation.checks.copies import COPIES
from pipeline.data.validation.checks.drift import DRIFT
from pipeline.data.validation.checks.files import FILES
from pipeline.data.validation.checks.labels import LABELS
from pipeline.data.validation.checks.pixels import PIXELS
from pipeline.errors import ConfigurationError, did_you_mean
from pipeline.params import ValidationParams

CHECKS: tuple[Check, ...] = (*FILES, *PIXELS, *COPIES, *LABELS, *DRIFT)


def asked(params: ValidationParams, group: str | None) -> tuple[Check, ...]:
    """The checks that are asked, with the severities that ``validation.severity`` gives them.

    Raises:
        ConfigurationError: it names no check, or one whose severity is fixed.
    """
    check_severities(params.severity)
    return tuple(
        check if wanted is None else replace(check, severity=wanted)
        for check in CHECKS
        if (wanted := params.severity.get(check.name)) != "off" and check.applies(group)
    )


def check_severities(severity: Mapping[str, str]) -> None:
    """Refuse a name that is no check's, and a check whose severity cannot be chosen."""
    checks = {check.name: check for check in CHECKS}
    free = [check.name for check in CHECKS if not check.fixed]
    for name, wanted in severity.items():
        if name not in checks:
            raise ConfigurationError(
                f"params.yaml: validation.severity: '{name}' is no check"
                f"{did_you_mean(name, free) or ';'} there are {', '.join(free)}"
            )
        if checks[name].fixed and wanted != checks[name].severity:
            raise ConfigurationError(
                f"params.yaml: validation.severity.{name}: '{wanted}' is not possible, because the"
                f" later stages cannot use what fails it; take '{name}' out"
            )


def suite(level: Level, checks: Sequence[Check], params: ValidationParams) -> dict[str, Any]:
    """The ``checks`` of ``level`` as a suite of Great Expectations."""
    configurations = [check.configuration(params) for check in checks if check.level == level]
    return {"name": level, "expectations": configurations, "meta": {}}


def default_suites(params: ValidationParams) -> str:
    """What ``expectations.json`` holds: the suites of the committed ``params.yaml``, to be read."""
    checks = asked(params, None)
    levels: tuple[Level, ...] = ("row", "dataset", "reference")
    return json.dumps([suite(level, checks, params) for level in levels], indent=2) + "\n"


def with_derived(
    table: pd.DataFrame, level: Level, checks: Sequence[Check], group: str | None
) -> pd.DataFrame:
    """``table`` with the columns that the ``checks`` of ``level`` derive."""
    derived = {
        check.column: check.derive(table, group)
        for check in checks
        if check.level == level and check.derive is not None
    }
    return table.assign(**derived)
