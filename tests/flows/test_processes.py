"""Commands in process groups of their own: lines as they come, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from flows import processes
from flows.processes import Children, ProcessGroup
from pipeline.errors import PipelineError

from .conftest import PROJECT, wait_for


def run(code: str, tmp_path: Path, *, timeout: float = 30, on_line=lambda _: None):
    return processes.run(
        ["sh", "-c", code],
        cwd=tmp_path,
        environment=os.environ,
        timeout=timeout,
        on_line=on_line,
    )


def alive(pid_file: Path) -> bool:
    try:
        process = psutil.Process(int(pid_file.read_text()))
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_lines_come_while_the_command_runs(tmp_path):
    seen: list[tuple[str, float]] = []
    run(
        "echo one; echo two >&2; sleep 1; printf 'three'",
        tmp_path,
        on_line=lambda line: seen.append((line, time.monotonic())),
    )
    assert [line for line, _ in seen] == ["one", "two", "three"]
    assert seen[2][1] - seen[1][1] > 0.7


def test_bytes_that_are_no_text_do_not_end_the_reading(tmp_path):
    finished = run(r"printf 'a\377b\nc\n'", tmp_path)
    assert finished.last_lines == ("a�b", "c")


@pytest.mark.parametrize(
    ("code", "exit_code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill $$", 143)]
)
def test_the_exit_code_is_the_command_s(tmp_path, code, exit_code):
    assert run(code, tmp_path).exit_code == exit_code


def test_a_program_that_is_not_there_is_named(tmp_path):
    finished = processes.run(
        ["no-such-program"],
        cwd=tmp_path,
        environment=os.environ,
        timeout=10,
        on_line=lambda _: None,
    )
    assert finished.exit_code == 127
    assert "no-such-program" in finished.last_lines[-1]


def test_a_time_out_ends_the_whole_group(tmp_path):
    code = "sleep 300 & echo $! > child; echo $$ > parent; wait"
    started = time.monotonic()
    assert run(code, tmp_path, timeout=0.5).timed_out
    assert time.monotonic() - started < 4
    wait_for(lambda: not alive(tmp_path / "child"), 5)
    assert not alive(tmp_path / "parent")


def test_what_does_not_listen_to_sigterm_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 0.5)
    code = "trap '' TERM; sleep 300 & echo $! > child; while :; do sleep 300; done"
    assert run(code, tmp_path, timeout=0.5).timed_out
    wait_for(lambda: not alive(tmp_path / "child"), 5)


def test_what_a_command_leaves_behind_ends_with_it(tmp_path):
    started = time.monotonic()
    finished = run("sleep 300 & echo $! > child", tmp_path)
    assert finished.exit_code == 0
    assert time.monotonic() - started < 4
    wait_for(lambda: not alive(tmp_path / "child"), 5)


def test_a_group_ends_when_its_parent_is_killed(tmp_path):
    code = """
import os, time
from pathlib import Path
from flows.processes import ProcessGroup
ProcessGroup(["sh", "-c", "sleep 300 & echo $! > child; wait"], cwd=Path("."),
             environment=os.environ)
time.sleep(300)
"""
    path = os.pathsep.join([str(PROJECT), str(PROJECT / "src")])
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}
    )
    child = tmp_path / "child"
    wait_for(lambda: child.exists() and child.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not alive(child), 15)


def test_the_end_of_a_run_ends_what_its_threads_started(tmp_path, monkeypatch):
    children = Children()
    monkeypatch.setattr(processes, "CHILDREN", children)
    threads = [
        threading.Thread(target=run, args=(f"echo $$ > child{i}; sleep 300", tmp_path))
        for i in range(2)
    ]
    with contextlib.suppress(KeyboardInterrupt), children.ended_on_exit():
        for thread in threads:
            thread.start()
        wait_for(lambda: all((tmp_path / f"child{i}").exists() for i in range(2)), 15)
        raise KeyboardInterrupt
    for i, thread in enumerate(threads):
        thread.join(timeout=10)
        assert not thread.is_alive()
        wait_for(lambda i=i: not alive(tmp_path / f"child{i}"), 5)
    with pytest.raises(PipelineError, match="being ended"):
        run("touch started", tmp_path)
    assert not (tmp_path / "started").exists()


def test_stopping_twice_is_harmless(tmp_path):
    group = ProcessGroup(["true"], cwd=tmp_path, environment=os.environ, output=subprocess.DEVNULL)
    group.wait(10)
    group.stop()
    group.stop()
    assert group.poll() == 0
