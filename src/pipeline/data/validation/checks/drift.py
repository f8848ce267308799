"""Checks against the reference: the columns and the distributions of the data last accepted.

They judge a table with a row for each column compared; see `validation.reference.compare`.
"""

from __future__ import annotations

from pipeline.data.validation.check import Check

_ACCEPT = "run 'python -m pipeline data accept-reference' to make it what later data is compared to"

DRIFT: tuple[Check, ...] = (
    Check(
        name="lost_column",
        level="reference",
        severity="critical",
        column="presence",
        expectation="expect_column_values_to_not_be_in_set",
        arguments=lambda _: {"value_set": ("lost",)},
        reason="the data has lost a column that reference.json has",
        remedy=f"Bring it back; or, if the new data is right, {_ACCEPT}.",
        counterexample={"presence": ["lost"]},
    ),
    Check(
        name="changed_type",
        level="reference",
        severity="critical",
        column="type_change",
        expectation="expect_column_values_to_be_null",
        arguments=lambda _: {},
        reason="a column is of another type than in reference.json",
        remedy="Look for a value that is no number, or for numbers in place of words; or, if the"
        f" new data is right, {_ACCEPT}.",
        detail="type_change",
        counterexample={"type_change": ["number → text"]},
    ),
    Check(
        name="new_column",
        level="reference",
        severity="warning",
        column="presence",
        expectation="expect_column_values_to_not_be_in_set",
        arguments=lambda _: {"value_set": ("new",)},
        reason="the data has a column that reference.json does not have",
        remedy=f"If it is meant, {_ACCEPT}.",
        counterexample={"presence": ["new"]},
    ),
    Check(
        name="drift",
        level="reference",
        severity="warning",
        column="drift",
        expectation="expect_column_values_to_be_between",
        arguments=lambda params: {"max_value": params.max_drift},
        reason="more images than validation.max_drift have other values than in reference.json",
        remedy=f"Look at the page for what moved; if the new data is right, {_ACCEPT}.",
        detail="drift",
        wording=lambda drift: f"{drift:.0%} of the images",
        counterexample={"drift": [0.8]},
    ),
    Check(
        name="label_drift",
        level="reference",
        severity="warning",
        column="label_drift",
        expectation="expect_column_values_to_be_between",
        arguments=lambda params: {"max_value": params.max_drift},
        reason="more images than validation.max_drift have other labels than in reference.json",
        remedy=f"Look whether labels were mixed up; if the new data is right, {_ACCEPT}.",
        detail="label_drift",
        wording=lambda drift: f"{drift:.0%} of the images",
        counterexample={"label_drift": [0.8]},
    ),
)
