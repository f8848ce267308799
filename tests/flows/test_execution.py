"""One stage by real DVC: what is passed on, how failures are told, which of them may pass."""

from __future__ import annotations

import os
from typing import Any

import pytest

from flows.execution import StageFailed, call, reproduce
from flows.stage import retry_can_help

from .conftest import TinyProject, wait_for


def scan(project: TinyProject, *, timeout: float = 60, lines: list[str] | None = None) -> Any:
    emit = (lambda _: None) if lines is None else lines.append
    return reproduce(project.root, "scan", timeout=timeout, emit=emit, environment={"EXTRA": "1"})


def register(project: TinyProject) -> Any:
    return call(
        project.root, ["register"], name="register", timeout=30, emit=lambda _: None, environment={}
    )


def retried(error: Exception) -> bool:
    from prefect.states import Failed

    return retry_can_help(None, None, Failed(data=error))


def test_a_stage_runs_and_a_second_time_dvc_skips_it(tiny):
    lines: list[str] = []
    assert scan(tiny, lines=lines).way == "ran"
    # The time and what DVC says about itself are left out.
    assert lines == ["Running stage 'scan':", "this is scan"]
    assert scan(tiny).way == "unchanged"
    (tiny.root / "artifacts" / "scan.txt").unlink()
    (tiny.root / "dvc.lock").unlink()
    assert scan(tiny).way == "cached"


def test_a_stage_sees_its_environment_and_no_secret_of_prefect(tiny, monkeypatch):
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "pipeline:secret")
    tiny.plan(
        "scan", "print('PREFECT' in str(os.environ), os.environ['EXTRA'], os.environ['PATH'])"
    )
    lines: list[str] = []
    scan(tiny, lines=lines)
    assert lines[-1].startswith("False 1 ")
    assert lines[-1].split()[2].split(os.pathsep)[0].endswith("bin")


def test_a_failing_stage_s_own_words_and_code_come_through_dvc(tiny):
    tiny.plan("scan", "fail(3, 'images/x.png: no label; add one')")
    with pytest.raises(StageFailed) as caught:
        scan(tiny)
    assert str(caught.value) == "scan: images/x.png: no label; add one"
    assert caught.value.exit_code == 3
    assert not (tiny.root / "artifacts" / "scan.txt").exists()


@pytest.mark.parametrize("exit_code", [1, 2, 3, 75])
def test_a_failure_with_a_message_for_the_user_is_not_retried(tiny, exit_code):
    tiny.plan("register", f"fail({exit_code}, 'no: do this')")
    with pytest.raises(StageFailed, match=r"^register: no: do this$") as caught:
        register(tiny)
    assert caught.value.exit_code == exit_code
    assert not retried(caught.value)


def test_a_stage_that_was_killed_below_dvc_is_retried(tiny):
    tiny.plan("scan", "os.kill(os.getpid(), 9)")
    with pytest.raises(StageFailed, match="last lines") as caught:
        scan(tiny)
    assert caught.value.exit_code == 1
    assert retried(caught.value)


@pytest.mark.parametrize(
    ("code", "passing"),
    [
        ("os.kill(os.getpid(), 9)", True),
        ("raise OSError(5, 'Input/output error')", True),
        ("raise ConnectionResetError('gone')", True),
        ("raise OSError(28, 'No space left on device')", False),
        ("raise ValueError('a defect')", False),
        ("sys.exit(3)", False),
    ],
)
def test_only_failures_that_may_pass_are_retried(tiny, code, passing):
    tiny.plan("register", code)
    with pytest.raises(StageFailed, match="last lines") as caught:
        register(tiny)
    assert caught.value.exit_code == 1
    assert retried(caught.value) is passing


def test_a_stage_that_takes_too_long_is_ended_whole_and_not_retried(tiny):
    tiny.plan("scan", "subprocess.Popen(['sleep', '300']); time.sleep(300)")
    with pytest.raises(StageFailed, match=r"flow\.stage_timeout") as caught:
        scan(tiny, timeout=5)
    assert caught.value.exit_code == 1
    assert not retried(caught.value)
    wait_for(lambda: not tiny.processes(), 10)


def test_a_command_of_the_pipeline_is_called_with_the_project_s_code(tiny):
    lines: list[str] = []
    outcome = call(
        tiny.root,
        ["data", "restore"],
        name="data restore",
        timeout=30,
        emit=lines.append,
        environment={},
    )
    assert lines == ["pipeline data restore"]
    assert outcome.last_line == "pipeline data restore"


def test_a_wrong_command_is_wrong_usage(tiny):
    tiny.plan("register", "sys.exit(2)")
    with pytest.raises(StageFailed) as caught:
        register(tiny)
    assert caught.value.exit_code == 2
