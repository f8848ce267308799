"""``python -m flows.training`` with real Prefect and DVC, on stages that take no time."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest
import yaml

from .conftest import TinyProject, end, wait_for

OF_A_VARIANT = ("train", "evaluate", "index")
ALL = ["scan", "validate", "split", "augment"]
ALL += [f"{stage}@{variant}" for variant in "ab" for stage in OF_A_VARIANT]
slow = pytest.mark.slow


def states(project: TinyProject) -> dict[str, str]:
    """The last state of each task run, by name."""
    query = "select name, state_name from task_run order by start_time"
    return dict(project.database(query))


def hold_workspace(project: TinyProject, purpose: str) -> subprocess.Popen[str]:
    code = """
import sys, time
from pathlib import Path
from pipeline.workspace import Workspace
with Workspace(Path(sys.argv[1])).hold(sys.argv[2]):
    time.sleep(120)
"""
    holder = project.start("-c", code, str(project.root), purpose)
    lock = project.root / ".pipeline" / "lock"
    wait_for(lambda: lock.exists() and lock.read_text(), 30)
    return holder


@pytest.mark.parametrize("flow", ["training", "ingest"])
def test_a_second_run_is_told_at_once_that_the_workspace_is_busy(tiny, flow):
    holder = hold_workspace(tiny, "a test")
    try:
        before = os.times()
        done = tiny.flow(flow)
        after = os.times()
        assert done.returncode == 75
        assert "a test (process" in done.stdout
        assert len(done.stdout.splitlines()) == 1
        assert not (tiny.root / ".prefect" / "prefect.db").exists()
        # Processor time, which a busy machine does not stretch.
        assert after.children_user - before.children_user < 2
    finally:
        end(holder)


def test_a_slip_in_the_settings_is_told_before_anything_starts(tiny):
    tiny.edit_flow(stage_timeout="soon")
    done = tiny.flow("training")
    assert done.returncode == 2
    assert "flow.stage_timeout: 'soon'" in done.stdout
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("flow", ["training", "ui", "deploy"])
def test_a_stray_argument_starts_nothing(tiny, flow):
    done = tiny.flow(flow, "--help")
    assert done.returncode == 2
    assert f"usage: python -m flows.{flow}" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert not (tiny.root / ".prefect").exists()


def test_a_folder_without_the_right_to_write_is_a_message(tiny):
    (tiny.root / "sitecustomize.py").write_text(
        "import pathlib\n"
        "def refused(self, *a, **k): raise PermissionError(13, 'Permission denied', str(self))\n"
        "pathlib.Path.mkdir = refused\n"
    )
    done = tiny.flow("training")
    assert done.returncode == 1
    assert "permission denied; give this user the right" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_ingest_takes_one_source(tiny):
    done = tiny.flow("ingest", "one", "two")
    assert done.returncode == 2
    assert "usage" in done.stdout


@slow
def test_a_run_streams_each_line_once_and_leaves_everything_in_prefect(warm):
    warm.plan("scan", "print('first'); sys.stdout.flush(); time.sleep(2); print('second')")
    done = warm.flow("training")
    assert done.returncode == 0, done.stdout
    for text in ("scan │ first", "scan │ second", "version 1 is the champion", "make ui"):
        assert text in done.stdout
    assert done.stdout.count("scan │ first") == 1
    assert "Traceback" not in done.stdout
    times = [line[:8] for line in done.stdout.splitlines() if "scan │ " in line]
    assert times[-1] > times[-2]  # as they came

    assert set(states(warm)) == {
        *("params", "data restore", "mlflow run", *ALL, "compare", "register")
    }
    assert set(states(warm).values()) == {"Completed"}
    assert warm.database("select name from flow_run where state_name = 'Completed'")
    logged = [message for (message,) in warm.database("select message from log")]
    assert logged.count("first") == 1
    assert logged.count("second") == 1
    ((markdown,),) = warm.database("select data from artifact where key = 'leaderboard'")
    assert "version 1 is the champion" in markdown
    secret = warm.password().partition(":")[2]
    assert not any(secret in message for message in [*logged, markdown, done.stdout])
    commands = (warm.root / "commands").read_text().splitlines()
    assert sorted(commands[:2]) == ["data restore", "params"]
    assert commands[2:] == ["register"]

    # A second run finds nothing to do, and says so.
    again = warm.flow("training")
    assert again.returncode == 0, again.stdout
    assert {states(warm)[stage] for stage in ALL} == {"Unchanged"}
    assert "this is" not in again.stdout
    assert wait_for(lambda: not warm.processes(), 10)


@slow
def test_refused_data_ends_the_run_with_its_message_and_no_second_try(warm):
    warm.plan(
        "validate", "open('tries', 'a').write('x'); fail(3, 'data/x.png: refused; remove it')"
    )
    done = warm.flow("training")
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1].endswith("validate: data/x.png: refused; remove it")
    assert "failed to reproduce" not in done.stdout
    assert "Traceback" not in done.stdout
    assert (warm.root / "tries").read_text() == "x"
    assert "split" not in states(warm)
    logged = "\n".join(message for (message,) in warm.database("select message from log"))
    assert "Traceback" not in logged


@slow
def test_variants_run_side_by_side_and_one_that_fails_does_not_stop_the_others(warm):
    warm.edit_flow(parallel_variants=2)
    passing = """
    if not os.path.exists("once"):
        open("once", "w").close()
        os.kill(os.getpid(), 9)
    time.sleep(8)
    """
    warm.plan("train.a", passing)
    warm.plan("train.b", "time.sleep(12)")
    warm.plan("evaluate.b", "fail(3, 'nothing to measure')")
    done = warm.flow("training")
    assert done.returncode == 3
    assert "trying again" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("evaluate@b: nothing to measure")
    a, b = warm.ran("train.a"), warm.ran("train.b")
    assert max(a[0], b[0]) < min(a[1], b[1])
    now = states(warm)
    assert now["train@a"] == now["evaluate@a"] == "Completed"
    assert now["evaluate@b"] == "Failed"
    assert not {"compare", "register"} & set(now)


@slow
@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_run_that_is_ended_leaves_no_process_behind(warm, number, exit_code):
    warm.plan("train.a", "subprocess.Popen(['sleep', '300']); open('up', 'w'); time.sleep(300)")
    flow = warm.start("-m", "flows.training")
    try:
        wait_for((warm.root / "up").exists, 120)
        os.kill(flow.pid, number)
        output, _ = flow.communicate(timeout=60)
    finally:
        end(flow)
    assert flow.returncode == exit_code
    assert wait_for(lambda: not warm.processes(), 20)
    assert "Traceback" not in output
    if number == signal.SIGKILL:
        return
    assert warm.database("select name from flow_run where state_name = 'Crashed'")
    assert not re.search(r"trying again", output)
    # The workspace is free again, and a run goes on from there.
    assert (warm.root / ".pipeline" / "lock").read_text() == ""


@slow
def test_an_unknown_network_is_wrong_configuration(warm):
    warm.plan("params", "fail(2, \"variants.a.model: 'resnt18' is not a model\")")
    done = warm.flow("training")
    assert done.returncode == 2
    assert "'resnt18' is not a model" in done.stdout.splitlines()[-1]
    assert set(states(warm)) == {"params", "data restore"}


@slow
def test_ingest_passes_its_source_on(warm, tmp_path):
    (tmp_path / "photographs").mkdir()
    command = warm.run("-m", "flows.ingest", "photographs", cwd=tmp_path)
    assert command.returncode == 0, command.stdout
    commands = (warm.root / "commands").read_text().splitlines()
    assert commands == [f"ingest {tmp_path / 'photographs'}"]
    assert states(warm) == {"ingest": "Completed"}


class Ended:
    """The task that started the parent run, in vain or not."""

    def __init__(self, result: str | Exception) -> None:
        self._result = result

    def result(self) -> str:
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


def refused(*_: object, **__: object) -> None:
    raise RuntimeError("401 != 200")


@pytest.fixture
def flow(monkeypatch):
    """The flow's module, whose import sets up logging; its lines go to ``caplog`` all the same."""
    from flows import training

    monkeypatch.setattr(training.logger, "propagate", True)
    return training


@pytest.mark.parametrize("parent", [RuntimeError("401 != 200"), "0" * 32])
def test_mlflow_in_trouble_does_not_hide_what_failed(flow, tmp_path, monkeypatch, caplog, parent):
    from flows.execution import StageFailed
    from pipeline.workspace import Workspace

    monkeypatch.setattr(flow.tracking, "finish_parent", refused)
    with (
        pytest.raises(StageFailed, match="no images") as failed,
        flow._recorded(Workspace(tmp_path), Ended(parent)),
    ):
        raise StageFailed("validate", 3, "no images")
    assert failed.value.exit_code == 3
    assert "401 != 200; the flow's run in MLflow stays open" in caplog.text
    with flow._recorded(Workspace(tmp_path), Ended(parent)):
        pass


def test_a_flow_goes_on_without_a_run_that_mlflow_refuses(flow, tmp_path, monkeypatch, caplog):
    from pipeline.workspace import Workspace

    monkeypatch.setattr(flow.tracking, "start_parent", refused)
    assert flow.start_mlflow_run.fn(Workspace(tmp_path)) is None
    assert "401 != 200" in caplog.text


def test_places_for_variants_have_a_gpu_of_their_own(tiny, monkeypatch):
    from flows import variants
    from pipeline.params import load

    def slots(visible: str, **flow: object) -> list[dict[str, str]]:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        tiny.edit_flow(**flow)
        return variants.slots(load(tiny.root / "params.yaml"))

    def gpus(processes: object, visible: str, **flow: object) -> list[str]:
        """Of each place, where one variant is trained by ``processes``."""
        params = yaml.safe_load((tiny.root / "params.yaml").read_text())
        next(iter(params["variants"].values()))["processes"] = processes
        (tiny.root / "params.yaml").write_text(yaml.safe_dump(params))
        return [slot["CUDA_VISIBLE_DEVICES"] for slot in slots(visible, **flow)]

    assert slots("") == [{}]
    assert slots("", parallel_variants=2) == [{}, {}]
    assert slots("3,5", parallel_variants="auto") == [
        {"CUDA_VISIBLE_DEVICES": "3"},
        {"CUDA_VISIBLE_DEVICES": "5"},
    ]
    assert slots("3", parallel_variants=2) == [{"CUDA_VISIBLE_DEVICES": "3"}] * 2
    assert len(slots("0,1,2,3", parallel_variants="auto")) == 2  # no more than variants
    assert gpus(2, "0,1,2,3,4", parallel_variants="auto") == ["0,1", "2,3"]
    assert gpus(2, "0,1,2", parallel_variants="auto") == ["0,1"]
    assert gpus(2, "0,1,2", parallel_variants=2) == ["0,1", "2,0"]
    assert gpus("auto", "0,1,2", parallel_variants="auto") == ["0,1,2"]
    assert gpus(8, "0,1", parallel_variants="auto") == ["0,1"]  # the training says what it lacks
    assert slots("", parallel_variants="auto") == [{}]
    params = yaml.safe_load((tiny.root / "params.yaml").read_text())
    params["train"]["device"] = "cpu"
    (tiny.root / "params.yaml").write_text(yaml.safe_dump(params))
    assert slots("3,5", parallel_variants="auto") == [{}]
