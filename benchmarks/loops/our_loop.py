"""The pipeline's training as its users run it: packed data, checkpoints, journal, chosen plan.

``python our_loop.py CASE`` prints the images per second of the last epoch, as the journal has them.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.loops.case import asked
from benchmarks.loops.recipe import recipe
from benchmarks.results import PROJECT
from pipeline import journal
from pipeline.training.checkpoint import hold
from pipeline.training.distributed import ALONE
from pipeline.training.environment import reproducible
from pipeline.training.fit import fit
from pipeline.training.loop import Trainer
from pipeline.training.plan import Plan
from pipeline.training.probe import plan_for
from pipeline.training.task import Task, build_splits
from pipeline.vision.models import Classifier

USUAL_EPOCHS = 100
"""Of a training that is long enough to measure by which plan it is computed best."""


def main() -> None:
    case = asked()
    task = recipe(case)
    plans = PROJECT / ".cache" / "bench" / "plans"
    with tempfile.TemporaryDirectory() as folder, hold(Path(folder) / "training") as checkpoints:
        with reproducible(task.device):
            _pin_plan(task, plans)
            fit(task, checkpoints, plans=plans)
        last = journal.read(checkpoints.journal)[-1]
    if case.test_folder:  # which are the images to validate on, and here choose nothing
        sys.stdout.write(f"{last.metrics['val_accuracy']}\n")
    sys.stdout.write(f"{last.metrics['images_per_second']}\n")


def _pin_plan(task: Task, plans: Path) -> None:
    """Measure the plan as a usual training does at its start: the peers get their best too."""
    usual = replace(task, settings=task.settings.model_copy(update={"epochs": USUAL_EPOCHS}))
    train, val = build_splits(usual)

    def build_trainer(model: Classifier, plan: Plan, batch_size: int) -> Trainer:
        settings = usual.settings.model_copy(update={"batch_size": batch_size})
        return Trainer(model, settings, plan, usual.policy, train=train, val=val)

    plan_for(usual, usual.network(), build_trainer, folder=plans, ranks=ALONE)


if __name__ == "__main__":
    main()
