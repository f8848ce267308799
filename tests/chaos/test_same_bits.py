"""The same seed, machine, code and plan: the same bits, whoever starts the training."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("threads", ["1", "2"])
def test_two_runs_from_scratch_give_the_same_bits(training, threads):
    runs = []
    for command in (["-m", "pipeline", "train", "first"], ["-m", "dvc", "repro", "train@first"]):
        training.forget()
        training.project.run("python", *command, OMP_NUM_THREADS=threads)
        runs.append((training.checkpoints(), training.weights()))
    assert runs[0] == runs[1]


def test_a_changed_setting_starts_anew_and_the_old_one_goes_on(training, undisturbed):
    training.repro()
    before = training.checkpoints()
    training.project.edit_params(variants__first__lr=0.004)
    training.repro()
    assert len(list((training.root / "checkpoints").iterdir())) == 2
    changed = set(training.checkpoints()) - set(before)
    assert len(changed) == len(before)
    assert training.weights() != undisturbed.weights()
    training.project.edit_params(variants__first__lr=0.005)
    training.repro()
    assert training.weights() == undisturbed.weights()
