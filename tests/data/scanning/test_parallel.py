"""The processes that read files: what happens to one file happens to it alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.data.scanning import worker_process
from pipeline.data.scanning.measure import Limits
from pipeline.data.scanning.parallel import Pool, Result, Setting, Task
from pipeline.data.scanning.worker import COLUMNS
from pipeline.errors import PipelineError
from tests.crashing import SHA256, misbehave
from tests.images import encoded, picture

LIMITS = Limits(max_bytes=10**9, max_pixels=10**9)
TIMEOUT = 3.0


def results(setting: Setting, tasks: list[Task], *, workers: int = 1) -> list[Result]:
    # As many files are announced as make it worth to start all the workers.
    with Pool(setting, workers) as pool:
        return list(pool.measure(tasks, 1000))


def measured(
    folder: Path, names: list[str], *, workers: int = 1, memory: int = 2_000
) -> dict[str, dict[str, object]]:
    """The rows of ``names``, which are all reported once."""
    setting = Setting(folder, LIMITS, TIMEOUT, memory, misbehave)
    tasks = [Task(i, name) for i, name in enumerate(names)]
    rows = {}
    for result in results(setting, tasks, workers=workers):
        for number, row in zip(result.numbers, result.rows, strict=True):
            assert number not in rows
            rows[number] = dict(zip(COLUMNS, row, strict=True))
    assert [rows[i]["file_name"] for i in range(len(names))] == names
    return {str(row["file_name"]): row for row in rows.values()}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """Files of all kinds in one run of two processes."""
    names = [f"{i:03}" for i in range(150)]
    for place, name in [(0, "exit"), (40, "hang"), (41, "segfault"), (90, "once"), (149, "greedy")]:
        names[place] = name
    names[91] = "noisy"
    names[92] = "defect"
    return measured(tmp_path_factory.mktemp("files"), names, workers=2)


def test_files_beside_bad_ones_are_read(rows):
    bad = {"exit", "hang", "segfault", "greedy", "defect"}
    assert {name for name, row in rows.items() if row["status"] != "ok"} == bad
    assert all(row["sha256"] == SHA256 for name, row in rows.items() if name not in bad)


def test_a_file_that_ends_its_process_is_crashed(rows):
    for name in ("exit", "segfault"):
        assert rows[name]["status"] == "crashed"
        assert "ended the process" in str(rows[name]["error"])


def test_a_file_that_hangs_is_ended_at_the_limit(rows):
    assert rows["hang"]["status"] == "timeout"
    assert rows["hang"]["error"] == "not read within 3 seconds (scan.timeout)"


def test_a_process_that_was_killed_by_chance_costs_no_file(rows):
    assert rows["once"]["status"] == "ok"


def test_a_defect_of_our_own_costs_its_file_and_is_named(rows):
    assert rows["defect"]["status"] == "crashed"
    assert "a defect of the pipeline: ZeroDivisionError('defect')" in str(rows["defect"]["error"])


def test_memory_beyond_the_limit_is_refused_to_a_worker(rows):
    assert rows["greedy"]["status"] == "crashed"
    assert "MemoryError" in str(rows["greedy"]["error"])


def test_an_image_that_needs_more_memory_than_allowed_is_too_large(tmp_path):
    (tmp_path / "large.png").write_bytes(encoded(picture(size=(1, 1)).resize((13_000, 13_000))))
    setting = Setting(tmp_path, LIMITS, 60, 100)
    (result,) = results(setting, [Task(0, "large.png")])
    row = dict(zip(COLUMNS, result.rows[0], strict=True))
    assert (row["status"], row["error"]) == ("too_large", "does not fit into memory")
    assert row["inode"] is None  # with more memory it may be read the next time


def test_what_is_known_of_a_file_reaches_its_worker(tmp_path):
    setting = Setting(tmp_path, LIMITS, TIMEOUT, 2_000, misbehave)
    (result,) = results(setting, [Task(5, "ünïcödé\n图", "known")])
    assert result.numbers == [5]
    assert dict(zip(COLUMNS, result.rows[0], strict=True))["error"] == "known"


def test_no_process_is_started_for_no_files(monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "Popen", None)
    with Pool(Setting(tmp_path, LIMITS, TIMEOUT, 2_000)) as pool:
        pool.start(0)
        assert list(pool.measure([], 0)) == []


def test_processes_that_wait_for_files_leave_nothing_behind(tmp_path):
    setting = Setting(tmp_path, LIMITS, TIMEOUT, 2_000, misbehave)
    with Pool(setting, 2) as pool:
        pool.start(1000)
        waiting = psutil.Process().children()
        assert len(waiting) == 2
        assert [len(result.rows) for result in pool.measure([Task(0, "fine")], 1)] == [1]
        assert psutil.Process().children() == waiting
    assert not any(process.is_running() for process in waiting)


def test_no_process_waits_while_another_has_all_the_files(tmp_path):
    setting = Setting(tmp_path, LIMITS, TIMEOUT, 2_000, misbehave)
    with Pool(setting, 2) as pool:
        pool.measure([Task(i, "fine") for i in range(64)], 1000)
        assert [len(worker.out) for worker in pool._workers] == [32, 32]


def test_a_process_that_cannot_start_is_an_error_with_its_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(worker_process, "_environment", lambda: {"PYTHONPATH": "/nowhere"})
    monkeypatch.setattr(sys, "executable", sys.base_exec_prefix + "/bin/python3")
    with pytest.raises(PipelineError, match=r"end before they begin.*No module named"):
        measured(tmp_path, ["a"])


def test_many_crashes_end(tmp_path):
    names = [f"exit{i}" for i in range(4)] + ["fine"]
    rows = measured(tmp_path, names)
    assert [rows[name]["status"] for name in names] == ["crashed"] * 4 + ["ok"]


# Nothing stays behind.

SCRIPT = """
import sys
from pathlib import Path
from pipeline.data.scanning.measure import Limits
from pipeline.data.scanning.parallel import Pool, Result, Setting, Task
from tests.crashing import misbehave

setting = Setting(Path(sys.argv[1]), Limits(1, 1), 3600, 2000, misbehave)
tasks = [Task(i, f"hang{i}" if i % 32 == 31 else "fine") for i in range(64)]
with Pool(setting, 2) as pool:
    for result in pool.measure(tasks, 1000):
        print(len(result.rows), flush=True)
"""


@pytest.fixture
def at_work(tmp_path: Path):
    """A parent whose two workers are busy, and these workers."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        workers = []
        for _ in range(600):
            workers = psutil.Process(parent.pid).children()
            if len(workers) == 2 and all(worker.cpu_times().user > 1 for worker in workers):
                break
            time.sleep(0.1)
        yield parent, workers
        parent.kill()
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel, as only Linux lets us")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_parent_that_ends_takes_its_workers_with_it(at_work, number):
    parent, workers = at_work
    assert len(workers) == 2
    parent.send_signal(number)
    parent.wait(30)
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
