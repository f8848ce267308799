"""`make bench-data`: the figures of the data side, one result file for each part.

``--part`` runs some of them, ``--images`` and ``--repeats`` make a run smaller, and ``--out`` keeps
the results of such a run apart from the published ones.
"""

from __future__ import annotations

from benchmarks.parts import run

PARTS = {
    "scan": ("data_scan", "rows"),
    "rescan": ("data_scan", "rescan_rows"),
    "near": ("data_near", "rows"),
    "rows": ("data_rows", "rows"),
    "corpus": ("data_corpus", "rows"),
}
"""Module and function of each; the function's parameters say which options it takes."""


if __name__ == "__main__":
    run("data", PARTS, __doc__)
