"""The corpus of bad files: how many cases there are, and how many end as they should."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from benchmarks.results import PROJECT, Row

CORPUS = PROJECT / "tests" / "corpus"


def rows() -> list[dict[str, Any]]:
    """Cases of each module of the corpus, and the verdicts of the tests that go through them."""
    table = []
    for path in sorted(CORPUS.glob("*.py")):
        module = importlib.import_module(f"tests.corpus.{path.stem}")
        if cases := getattr(module, "CASES", None):
            table.append(Row(f"corpus of {path.stem}", "cases", "", float(len(cases))))
    files = [
        str(path)
        for path in sorted((PROJECT / "tests").rglob("test_*.py"))
        if "tests.corpus" in path.read_text(encoding="utf-8")
    ]
    counts = _run(files)
    for name, count in counts.items():
        table.append(Row("tests over the corpus", name, "", float(count)))
    return [asdict(row) for row in table]


def _run(files: list[str]) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "--junitxml", str(report), *files]
        done = subprocess.run(
            command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=False, env=os.environ
        )
        if not report.exists():
            raise RuntimeError(f"the tests ended with {done.returncode}:\n{done.stdout}")
        suite = ET.parse(report).getroot()[0]  # noqa: S314 (pytest's own)
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    as_expected = counts["tests"] - sum(counts[name] for name in ("failures", "errors", "skipped"))
    return {"as expected": as_expected, **counts}
