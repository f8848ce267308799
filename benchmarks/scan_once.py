"""One timed scan in a fresh process: ``python -m benchmarks.scan_once FOLDER``; prints seconds.

The clock starts after the imports, so the start of this process does not count; that of the
processes that the scan starts does.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pipeline.data.scanning.scan import scan
from pipeline.params import load
from pipeline.workspace import Workspace


def main() -> None:
    project = Path(__file__).resolve().parent.parent
    params = load(project / "params.yaml").scan
    start = time.perf_counter()
    scan(Workspace(Path(sys.argv[1])), params)
    sys.stdout.write(f"{time.perf_counter() - start}\n")


if __name__ == "__main__":
    main()
