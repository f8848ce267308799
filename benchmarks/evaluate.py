"""`make bench-evaluate`: the figures of the evaluation, one result file for each part.

``--part`` runs some of them, ``--images`` and ``--repeats`` make a run smaller, and ``--out`` keeps
the results of such a run apart from the published ones.
"""

from __future__ import annotations

from benchmarks.parts import run

PARTS = {
    "explanations": ("evaluate_explanations", "rows"),
    "throughput": ("evaluate_throughput", "rows"),
    "bootstrap": ("evaluate_bootstrap", "rows"),
}
"""Module and function of each; the function's parameters say which options it takes."""


if __name__ == "__main__":
    run("evaluate", PARTS, __doc__)
