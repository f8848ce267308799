"""One timed search: ``python -m benchmarks.search_once HASHES.npy RADIUS``.

Prints seconds, counted after the imports, and the number of pairs.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from pipeline.data.scanning.hamming import pairs_within


def main() -> None:
    hashes = np.load(sys.argv[1], allow_pickle=False)
    start = time.perf_counter()
    pairs = sum(len(part.first) for part in pairs_within(hashes, int(sys.argv[2])))
    seconds = time.perf_counter() - start
    sys.stdout.write(json.dumps({"seconds": seconds, "pairs": pairs}) + "\n")


if __name__ == "__main__":
    main()
