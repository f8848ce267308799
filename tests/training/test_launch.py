"""The launcher of several processes: whoever ends, all end, and the reason is told once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from pipeline.errors import Busy, ConfigurationError, PipelineError
from pipeline.machine import processors
from pipeline.training.launch import (
    FOLDER,
    MOST_PER_PROCESSOR,
    join,
    launch,
    processes_to_launch,
)

PROJECT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
RANKS = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}

# Processes without PyTorch, which start in an instant. Each leaves its id, then does as told.
WORK = """
import json, os, pathlib, sys, time
from pipeline.parent import end_with_parent
end_with_parent()
rank, folder = os.environ["RANK"], pathlib.Path(sys.argv[1])
(folder / ("." + rank)).write_text(str(os.getpid()))
(folder / ("." + rank)).rename(folder / rank)
while len(list(folder.glob("[0-9]"))) < int(os.environ["WORLD_SIZE"]):
    time.sleep(0.01)
def tell(at, exit_code, message):
    path = pathlib.Path(os.environ["PIPELINE_RANKS"]) / ("failure-" + rank + ".json")
    path.write_text(json.dumps({"time": at, "exit_code": exit_code, "message": message}))
    sys.exit(exit_code)
"""
STAGE = """
import sys
from pathlib import Path
from pipeline.parent import end_with_parent
from pipeline.training.launch import launch
end_with_parent()
launch(2, ["-c", sys.argv[1], sys.argv[2]])
"""


@pytest.fixture(autouse=True)
def code_of_this_checkout(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PROJECT / "src"))


def work(code: str, folder: Path, processes: int = 2) -> None:
    launch(processes, ["-c", WORK + code, str(folder)])


def running(folder: Path) -> list[int]:
    """The processes that have been started and have not ended."""
    pids = [int(path.read_text()) for path in folder.glob("[0-9]")]
    return [pid for pid in pids if psutil.pid_exists(pid)]


def test_all_processes_know_their_number_and_where_to_meet(tmp_path):
    work("(folder / f'{rank}.json').write_text(json.dumps(dict(os.environ)))", tmp_path, 3)
    environments = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3)]
    for rank, environment in enumerate(environments):
        assert environment["LOCAL_RANK"] == str(rank)
        assert environment["WORLD_SIZE"] == environment["LOCAL_WORLD_SIZE"] == "3"
        assert environment["GLOO_SOCKET_IFNAME"].startswith("lo")
    (folder,) = {environment[FOLDER] for environment in environments}
    assert not Path(folder).exists()
    assert FOLDER not in os.environ


@pytest.mark.parametrize(
    ("exit_code", "kind"), [(1, PipelineError), (2, ConfigurationError), (75, Busy)]
)
def test_the_error_of_the_first_that_failed_is_the_stage_s(tmp_path, exit_code, kind):
    code = f"tell(5 - int(rank), {exit_code}, 'said by ' + rank)"
    with pytest.raises(kind, match=r"^said by 1$") as failed:
        work(code, tmp_path)
    assert failed.value.exit_code == exit_code
    assert running(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("rank == '1' and os.kill(os.getpid(), 9); time.sleep(60)", "process 1 of the 2 .*SIGKILL"),
        ("sys.exit(7 * int(rank)) if rank == '1' else time.sleep(60)", "process 1 .*exit code 7"),
        # One that lost the other ends by itself.
        ("rank == '1' and os.kill(os.getpid(), 9); sys.exit(1)", "process 1 .*SIGKILL"),
    ],
)
def test_a_process_that_dies_ends_the_others_and_is_named(tmp_path, code, message):
    began = time.monotonic()
    with pytest.raises(PipelineError, match=message):
        work(code, tmp_path)
    assert time.monotonic() - began < 40
    assert running(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_the_end_of_the_stage_is_the_end_of_all(tmp_path, number, exit_code):
    stage = subprocess.Popen(
        [sys.executable, "-c", STAGE, WORK + "time.sleep(60)", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("[0-9]"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(running(tmp_path)) == 2
    stage.send_signal(number)
    began = time.monotonic()
    _, printed = stage.communicate(timeout=60)
    assert stage.returncode == exit_code
    while running(tmp_path):
        assert time.monotonic() - began < 10
        time.sleep(0.05)
    assert printed == ""


def test_how_many_processes_there_are_to_start(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    gpu = torch.device("cuda", 0)
    assert processes_to_launch("auto", CPU, name="auto") == 1
    assert processes_to_launch("auto", gpu, name="auto") == 4
    assert processes_to_launch("auto", gpu, name="cuda") == 4
    assert processes_to_launch("auto", torch.device("cuda", 1), name="cuda:1") == 1
    assert processes_to_launch(1, gpu, name="cuda:0") == 1
    assert processes_to_launch(3, CPU, name="cpu") == 3
    # One that torchrun has started starts no others.
    for name, value in {**RANKS, "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert processes_to_launch(3, CPU, name="cpu") == 1


def test_ranks_that_no_torchrun_has_set_are_refused_by_what_they_lack(monkeypatch):
    for name, value in RANKS.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=r"but not LOCAL_RANK; start .* torchrun"):
        processes_to_launch(1, CPU, name="cpu")
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    with (
        pytest.raises(ConfigurationError, match="not LOCAL_RANK and LOCAL_WORLD_SIZE;"),
        join(CPU),
    ):
        pass
    monkeypatch.setenv("WORLD_SIZE", "1")  # a cluster's job that is a single process
    assert processes_to_launch(3, CPU, name="cpu") == 3
    with join(CPU) as ranks:
        assert ranks.size == 1


def test_far_more_processes_than_processors_are_refused():
    most = MOST_PER_PROCESSOR * processors()
    assert processes_to_launch(most, CPU, name="auto") == most
    with pytest.raises(ConfigurationError, match=rf"train\.processes: {most + 1} .* processors"):
        processes_to_launch(most + 1, CPU, name="auto")


def test_several_processes_on_one_named_gpu_are_refused():
    with pytest.raises(ConfigurationError, match=r"processes: 2 .* 'cuda:1'; set train\.device"):
        processes_to_launch(2, torch.device("cuda", 1), name="cuda:1")


def test_more_processes_than_gpus_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in {**RANKS, "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(ConfigurationError, match=r"train\.processes: 2 processes .* finds 1 GPUs"),
        join(torch.device("cuda")),
    ):
        pass
    # Under the launcher it leaves the message to that.
    monkeypatch.setenv(FOLDER, str(tmp_path))
    with pytest.raises(SystemExit) as ended, join(torch.device("cuda")):
        pass
    assert ended.value.code == 2
    (told,) = tmp_path.glob("failure-0.json")
    assert "train.processes" in json.loads(told.read_text())["message"]
