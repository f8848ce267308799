"""`make bench-train`: the figures of the training, one result file for each part.

``--part`` runs some of them, ``--images`` and ``--repeats`` make a run smaller, and ``--out`` keeps
the results of such a run apart from the published ones. The part ``accuracy`` needs ``--data``, a
folder of IDX files such as those of Fashion-MNIST, and is left out without.
"""

from __future__ import annotations

from benchmarks.parts import run

PARTS = {
    "ceiling": ("train_ceiling", "rows"),
    "peers-28": ("train_peers", "smallest"),
    "peers-128": ("train_peers", "largest"),
    "accuracy": ("train_accuracy", "rows"),
}
"""Module and function of each; the function's parameters say which options it takes."""


if __name__ == "__main__":
    run("train", PARTS, __doc__)
