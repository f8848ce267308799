"""Great Expectations, kept in one place: it judges tables by suites and writes its Data Docs."""

from __future__ import annotations

import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

_ALWAYS_THE_SAME = datetime(2000, 1, 1, tzinfo=UTC)
"""The run's time, which Data Docs show and name files by: outputs of a stage carry no clock."""

# What makes two equal Data Docs differ: a logo fetched from outside with the time in its address,
# the time the table was handed over, our own time in the local zone, random ids of foldable parts.
_REMOTE_LOGO = re.compile(r'(?:https?:)?//[^"\s]*/logo-long\.png\?d=\w+\.\w+')
_LOADED_AT = re.compile(r"\d{8}T\d{6}\.\d{6}Z")
_RUN_AT = re.compile(r"(?:1999-12-31|2000-01-01)[T ]\d\d:\d\d:\d\d(?:Z| [\w+:-]+)")
_RANDOM_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Outcome:
    """What became of one check."""

    check: str
    success: bool
    failing: tuple[str, ...]
    """``file_name`` of every row that fails; empty where the check is about no single rows."""
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
        """Judge ``table``, whose rows have a ``file_name``, by ``suite``, in the suite's order.

        Every expectation's ``meta`` names its check under ``check``. ``parameters`` are what
        the suite's ``$PARAMETER`` stand for.

        Raises:
            RuntimeError: an expectation could not be evaluated, which is neither pass nor fail.
        """
        from great_expectations.core.run_identifier import RunIdentifier

        gx, context, name = self._gx, self._context, suite["name"]
        with _quiet():
            asset = self._source.add_dataframe_asset(name)
            definition = gx.ValidationDefinition(
                name=name,
                data=asset.add_batch_definition_whole_dataframe("all"),
                suite=context.suites.add(gx.ExpectationSuite(**suite)),
            )
            checkpoint = gx.Checkpoint(
                name=name,
                validation_definitions=[context.validation_definitions.add(definition)],
                result_format={
                    "result_format": "COMPLETE",
                    "unexpected_index_column_names": ["file_name"],
                },
            )
            result = context.checkpoints.add(checkpoint).run(
                batch_parameters={"dataframe": table},
                expectation_parameters=dict(parameters),
                run_id=RunIdentifier(run_name=name, run_time=_ALWAYS_THE_SAME),
            )
        (run,) = result.run_results.values()
        outcomes = {outcome.check: outcome for outcome in map(_outcome, run.results)}
        return [outcomes[item["meta"]["check"]] for item in suite["expectations"]]

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
        for page in folder.rglob("*.html"):
            logo = Path(os.path.relpath(folder, page.parent), "static/images/logo-long.png")
            text = _without_chance(page.read_text(encoding="utf-8"), logo.as_posix())
            page.write_text(text, encoding="utf-8")
        for tutorial in (folder / "static" / "images").glob("*.gif"):
            tutorial.unlink()  # megabytes that belong to the buttons switched off above
        shutil.rmtree(folder / "static" / "fonts", ignore_errors=True)


def _without_chance(text: str, logo: str) -> str:
    text = _REMOTE_LOGO.sub(logo, text)
    text = _LOADED_AT.sub(f"{_ALWAYS_THE_SAME:%Y%m%dT%H%M%S.%fZ}", text)
    text = _RUN_AT.sub(f"{_ALWAYS_THE_SAME:%Y-%m-%d}", text)
    ids: dict[str, str] = {}
    return _RANDOM_ID.sub(lambda found: ids.setdefault(found[0], f"part-{len(ids)}"), text)


def _outcome(result: Any) -> Outcome:
    check = result.expectation_config.meta["check"]
    if error := _exception(result.exception_info):
        raise RuntimeError(f"the check '{check}' could not be evaluated: {error}")
    details = result.result
    rows = details.get("unexpected_index_list") or []
    return Outcome(
        check=check,
        success=bool(result.success),
        failing=tuple(row["file_name"] for row in rows),
        observed=details.get("observed_value"),
    )


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
