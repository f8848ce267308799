"""Fixtures that every part of the tests may use."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

PROJECT = Path(__file__).resolve().parent.parent

# No test may report home, or reach a store, a server or a run of the person who runs it.
os.environ |= {
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PIPELINE_LOCK_HELD", "PIPELINE_PARENT_RUN"):
    os.environ.pop(name, None)

# In the background of a script Ctrl-C is ignored, and so it would be by every process that a test
# starts and ends by it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's affair: it may do other work.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests first: the processes that share them then end together."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture
def project() -> Path:
    """The top folder of this checkout."""
    return PROJECT


@pytest.fixture
def params_text() -> str:
    """The committed ``params.yaml``."""
    return (PROJECT / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a headless browser; the tests of pages are skipped where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on this machine")
    return path
