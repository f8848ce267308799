"""Near duplicates by a peer, in the peers' environment; the last line printed is JSON.

``python benchmarks/near_once.py cleanvision|imagededup FOLDER`` prints the pairs of names found
with the settings each comes with, ``python benchmarks/near_once.py search HASHES.npy RADIUS`` the
seconds of imagededup's search alone, and how many pairs it found.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any


def cleanvision(folder: str) -> dict[str, Any]:
    from cleanvision import Imagelab

    lab = Imagelab(data_path=folder)
    lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}})
    pairs = [
        [Path(name).name for name in pair]
        for kind in ("exact_duplicates", "near_duplicates")
        for together in lab.info[kind]["sets"]
        for pair in combinations(together, 2)
    ]
    return {"pairs": pairs}


def imagededup(folder: str) -> dict[str, Any]:
    from imagededup.methods import PHash

    found = PHash(verbose=False).find_duplicates(image_dir=Path(folder))
    return {"pairs": [[name, other] for name, others in found.items() for other in others]}


def search(path: str, radius: str) -> dict[str, Any]:
    import numpy as np
    from imagededup.methods import PHash

    hashes = np.load(path, allow_pickle=False)
    named = {str(i): f"{int(value):016x}" for i, value in enumerate(hashes)}
    start = time.perf_counter()
    found = PHash(verbose=False).find_duplicates(
        encoding_map=named, max_distance_threshold=int(radius)
    )
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "pairs": sum(map(len, found.values())) // 2}


def main() -> None:
    with contextlib.redirect_stdout(sys.stderr):
        answer = {"cleanvision": cleanvision, "imagededup": imagededup, "search": search}[
            sys.argv[1]
        ](*sys.argv[2:])
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
