"""The process of a training is set up for equal bits and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from pipeline.errors import ConfigurationError
from pipeline.training.environment import (
    derived_seed,
    ending_cleanly,
    reproducible,
    resolve_device,
)


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("auto").type == "cuda"


def test_a_gpu_has_its_number_as_the_tensors_on_it_have(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)
    assert resolve_device("cuda:2") == torch.device("cuda", 2)


@pytest.mark.parametrize(("name", "there"), [("cuda", 0), ("cuda:1", 1)])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch, name, there):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    with pytest.raises(ConfigurationError, match=rf"train\.device: '{name}' is not there"):
        resolve_device(name)


def test_switches_and_random_state_of_torch_are_put_back():
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    with contextlib.suppress(ZeroDivisionError), reproducible(torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled()
        torch.set_num_threads(threads + 1)
        torch.manual_seed(6)
        raise ZeroDivisionError
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == threads
    assert torch.utils.deterministic.fill_uninitialized_memory == fill
    assert torch.equal(torch.get_rng_state(), state)


def test_the_gpu_of_a_training_is_the_current_one_meanwhile(monkeypatch):
    current = list[torch.device]()

    @contextlib.contextmanager
    def pretended(device):
        current.append(device)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", pretended)
    monkeypatch.setattr(torch.random, "fork_rng", lambda _: contextlib.nullcontext())
    with reproducible(torch.device("cuda", 1)):
        assert current == [torch.device("cuda", 1)]
    assert current == []


def test_derived_seeds_differ_with_every_part_and_fit_torch():
    seeds = {derived_seed(*parts) for parts in [("a", 1), ("a", 2), ("b", 1), ("a1",), ("a", 1, 0)]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed("dropout", 0, 3) == 7809331287707769221


TRAINER = """
import contextlib, sys, time
from pipeline.parent import end_with_parent
from pipeline.training.environment import ending_cleanly
end_with_parent()
with ending_cleanly(), contextlib.ExitStack() as stack:
    stack.callback(print, "released", flush=True)
    print("training", flush=True)
    time.sleep(60)
"""


def ended_by_sigterm(code: str) -> tuple[int, str, float]:
    """Exit code, output after ``training``, and seconds to the end of a process with ``code``."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "training\n"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output, time.monotonic() - began


def test_sigterm_releases_what_is_held_and_exits_143():
    exit_code, output, _ = ended_by_sigterm(TRAINER)
    assert (exit_code, output) == (143, "released\n")


DEAF = """
import time
from pipeline.training import environment
environment.LAST_RESORT = 0.5
with environment.ending_cleanly():
    print("training", flush=True)
    try:
        time.sleep(60)
    finally:
        time.sleep(60)
"""


@pytest.mark.slow
def test_a_process_that_does_not_come_to_itself_ends_too():
    exit_code, _, seconds = ended_by_sigterm(DEAF)
    assert exit_code == 143
    assert seconds < 30


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a child of its parent's death")
def test_a_stage_ends_when_dvc_is_killed():
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    dvc = subprocess.Popen(
        [sys.executable, "-c", parent, TRAINER],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"DVC_STAGE": "train@tiny"},
    )
    assert dvc.stdout is not None
    assert dvc.stdout.readline() == "training\n"
    dvc.kill()
    dvc.wait()
    began = time.monotonic()
    # The pipe closes once its last writer, the stage, has ended.
    assert dvc.stdout.read() == "released\n"
    assert time.monotonic() - began < 30
    dvc.stdout.close()


def test_signals_are_left_alone_outside_the_main_thread_and_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    with ending_cleanly():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    entered: list[bool] = []

    def enter() -> None:
        with ending_cleanly():
            entered.append(signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [True]
