"""One timed run of cleanvision with all its default checks, in the peers' environment.

``python benchmarks/cleanvision_once.py FOLDER`` prints seconds; the clock starts after the imports.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from cleanvision import Imagelab


def main() -> None:
    folder = str(Path(sys.argv[1], "data", "images"))
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        Imagelab(data_path=folder).find_issues(n_jobs=2)
    sys.stdout.write(f"{time.perf_counter() - start}\n")


if __name__ == "__main__":
    main()
