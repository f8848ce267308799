"""Great Expectations, kept in one place: it judges tables by suites and writes its Data Docs."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.data.validation.data_docs import ALWAYS_THE_SAME, make_plain


@dataclass(frozen=True)
class Outcome:
    """What became of one check."""

    check: str
    success: bool
    failing: NDArray[np.int64]
    """Positions of the rows that fail, ascending; empty where it is about no single rows."""
    observed: Any
    """The one value that a check about the whole column looked at, else ``None``."""


class Judge:
    """A Great Expectations context that lives in memory and reports to nobody."""

    def __init__(self) -> None:
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        with _quiet():
            import great_expectations as gx
            from great_expectations.data_context.types import base

            self._gx = gx
            stores = base.InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
            settings = base.DataContextConfig(
                store_backend_defaults=stores,
                progress_bars=base.ProgressBarsConfig(globally=False),
            )
            self._context = gx.get_context(mode="ephemeral", project_config=settings)
            self._source = self._context.data_sources.add_pandas("manifest")

    def judge(
        self, suite: Mapping[str, Any], table: pd.DataFrame, parameters: Mapping[str, Any]
    ) -> list[Outcome]:
        """Judge ``table``, whose index counts from 0, by ``suite``, in the suite's order.

        Every expectation's ``meta`` names its check under ``check``. ``parameters`` are what
        the suite's ``$PARAMETER`` stand for.

        Raises:
            RuntimeError: an expectation could not be evaluated, which is neither pass nor fail.
        """
        from great_expectations.core.run_identifier import RunIdentifier

        gx, context, name = self._gx, self._context, suite["name"]
        judged = {item["kwargs"]["column"] for item in suite["expectations"]}
        batch = {"dataframe": table[sorted(judged)]}
        with _quiet():
            expectations = context.suites.add(gx.ExpectationSuite(**suite))
            asset = self._source.add_dataframe_asset(name)
            whole = asset.add_batch_definition_whole_dataframe("all")
            definition = gx.ValidationDefinition(name=name, data=whole, suite=expectations)
            checkpoint = gx.Checkpoint(
                name=name,
                validation_definitions=[context.validation_definitions.add(definition)],
                result_format="SUMMARY",
            )
            result = context.checkpoints.add(checkpoint).run(
                batch_parameters=batch,
                expectation_parameters=dict(parameters),
                run_id=RunIdentifier(run_name=name, run_time=ALWAYS_THE_SAME),
            )
            (run,) = result.run_results.values()
            results = {item.expectation_config.meta["check"]: item for item in run.results}
            of_batch = whole.get_batch(batch)
            return [
                _outcome(results[expectation.meta["check"]], of_batch, expectation, parameters)
                for expectation in expectations.expectations
            ]

    def write_docs(self, folder: Path) -> None:
        """Write Data Docs of all that was judged: the same bytes for the same outcome."""
        with _quiet():
            self._context.add_data_docs_site(
                site_name="local",
                site_config={
                    "class_name": "SiteBuilder",
                    "show_how_to_buttons": False,
                    "store_backend": {
                        "class_name": "TupleFilesystemStoreBackend",
                        "base_directory": str(folder.resolve()),
                    },
                    "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
                },
            )
            self._context.build_data_docs(site_names=["local"])
        make_plain(folder)


def _outcome(result: Any, batch: Any, expectation: Any, parameters: Mapping[str, Any]) -> Outcome:
    """The outcome in ``result``, with its failing rows, which are asked for only here.

    To list all rows in the checkpoint's result would keep each of them in Great Expectations'
    store and pages; to have it name them by a column of ours takes 20 s for a million.
    """
    check = expectation.meta["check"]
    _refuse_exception(check, result)
    rows: list[int] = []
    if result.result.get("unexpected_count"):
        complete = batch.validate(
            expectation,
            result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False},
            expectation_parameters=dict(parameters),
        )
        _refuse_exception(check, complete)
        rows = complete.result["unexpected_index_list"]
    return Outcome(
        check=check,
        success=bool(result.success),
        failing=np.array(rows, dtype=np.int64),
        observed=result.result.get("observed_value"),
    )


def _refuse_exception(check: str, result: Any) -> None:
    if error := _exception(result.exception_info):
        raise RuntimeError(f"the check '{check}' could not be evaluated: {error}")


def _exception(info: Mapping[str, Any]) -> str | None:
    """The message of what was raised, from either of the two shapes Great Expectations uses."""
    for entry in (info, *info.values()):
        if isinstance(entry, Mapping) and entry.get("raised_exception"):
            return str(entry.get("exception_message") or "no message")
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's own log lines and warnings; what it finds, we say."""
    log = logging.getLogger("great_expectations")
    level = log.level
    log.setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            log.setLevel(level)
