"""Images decoded and thrown away by two processes: ``python -m benchmarks.decode_once FOLDER``.

What is left of a scan without its measures: Pillow alone, each file opened and loaded once. Prints
seconds; the clock starts after the imports, before the processes.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path

from PIL import Image


def decode(path: str) -> None:
    with Image.open(path) as image:
        image.load()


def main() -> None:
    paths = [str(path) for path in Path(sys.argv[1], "data", "images").iterdir()]
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for _ in pool.imap_unordered(decode, paths, chunksize=32):
            pass
    sys.stdout.write(f"{time.perf_counter() - start}\n")


if __name__ == "__main__":
    main()
