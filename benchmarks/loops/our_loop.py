"""The pipeline's training as its users run it: packed data, checkpoints, journal, chosen plan.

``python our_loop.py CASE`` prints the images per second of the last epoch, as the journal has them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.loops.case import asked
from benchmarks.loops.recipe import recipe
from benchmarks.results import PROJECT
from pipeline import journal
from pipeline.training.checkpoint import hold
from pipeline.training.environment import reproducible
from pipeline.training.fit import fit


def main() -> None:
    task = recipe(asked())
    with tempfile.TemporaryDirectory() as folder, hold(Path(folder) / "training") as checkpoints:
        with reproducible(task.device):
            fit(task, checkpoints, plans=PROJECT / ".cache" / "bench" / "plans")
        last = journal.read(checkpoints.journal)[-1]
    sys.stdout.write(f"{last.metrics['images_per_second']}\n")


if __name__ == "__main__":
    main()
