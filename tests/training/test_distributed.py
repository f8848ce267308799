"""Several processes: the gradients, images and counts of one, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.journal import read
from pipeline.training.distributed import ALONE, Group
from tests.training.together import BATCHES, observe, task_of

PROJECT = Path(__file__).resolve().parents[2]


def ranks_of(size: int) -> list[Group]:
    """Processes that have not met: enough to ask what falls to each."""
    ranks = [Group.__new__(Group) for _ in range(size)]
    for rank, group in enumerate(ranks):
        group.rank, group.size = rank, size
    return ranks


@given(count=st.integers(1, 200), size=st.integers(2, 9))
def test_parts_are_the_batch_in_order_and_no_image_is_alone(count, size):
    batch = torch.arange(count)
    parts = [ranks.part(batch) for ranks in ranks_of(size)]
    assert torch.equal(torch.cat(parts), batch)
    sizes = [len(part) for part in parts if len(part)]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) > 1 or count == 1


def test_a_process_alone_changes_nothing():
    gradient = torch.tensor([1.0, torch.nan])
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = gradient.clone()
    loss = torch.tensor(2.0)
    assert ALONE.sum_gradients([parameter], loss, 1.0) is loss
    assert (
        torch.equal(
            parameter.grad,
            gradient,
        )
        or parameter.grad[1].isnan()
    )
    assert ALONE.first
    assert ALONE.salt == ()
    assert ALONE.from_first(b"this") == b"this"


def together(what: str, size: int, *, root: Path, folder: Path) -> list[dict[str, Tensor]]:
    """What each of ``size`` processes has to tell of ``what``, see `tests.training.together`."""
    folder.mkdir()
    processes = []
    for rank in range(size):
        environment = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            "PIPELINE_RANKS": str(folder),
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), str(PROJECT)]),
        }
        command = [sys.executable, "-m", "tests.training.together", what, str(root), str(folder)]
        processes.append(subprocess.Popen(command, cwd=PROJECT, env=os.environ | environment))
    assert [process.wait(timeout=240) for process in processes] == [0] * size
    return [safetensors.torch.load_file(folder / f"{rank}.safetensors") for rank in range(size)]


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.chaos)])
def test_processes_together_do_what_one_does(workspace, write_params, tmp_path, size):
    write_params()
    alone = observe(task_of(workspace.root), ALONE)
    each = together("observe", size, root=workspace.root, folder=tmp_path / "ranks")
    for name in BATCHES:
        for ours in each:
            torch.testing.assert_close(
                ours[f"{name}/gradients"], alone[f"{name}/gradients"], rtol=1e-5, atol=1e-7
            )
            torch.testing.assert_close(ours[f"{name}/loss"], alone[f"{name}/loss"])
            assert torch.equal(ours[f"{name}/hits"], alone[f"{name}/hits"])
    for ours in each:
        # Of a step that is left out, every process knows.
        assert ours["nan/loss"].isnan()
        assert not ours["nan/moved"].any()
        torch.testing.assert_close(ours["epoch"], alone["epoch"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours["validated"], alone["validated"], rtol=1e-5, atol=1e-6)
        assert torch.equal(ours["validated"][1:], alone["validated"][1:])  # counts, exact

    # All hold the same bits, also where each had statistics and dropout of its own.
    for name in ("state", "optimizer", "epoch", "validated"):
        for ours in each[1:]:
            assert torch.equal(ours[name], each[0][name]), name
    taken = torch.cat([ours["taken"] for ours in each])
    assert torch.equal(taken.sort().values, alone["taken"].sort().values)
    assert all(0 < len(ours["taken"]) < len(alone["taken"]) for ours in each)


@pytest.mark.slow
def test_processes_that_were_ended_go_on_to_the_same_bits(workspace, write_params, tmp_path):
    write_params(optimizer="adamw", lr=0.005)
    each = together("resume", 2, root=workspace.root, folder=tmp_path / "ranks")
    for ours in each:
        assert torch.equal(ours["resumed"], ours["undisturbed"])
        assert torch.equal(ours["resumed"], each[0]["resumed"])
    assert [entry.step for entry in read(tmp_path / "ranks" / "ended" / "journal.jsonl")] == [
        *(1, 2, 3, 4)
    ]
