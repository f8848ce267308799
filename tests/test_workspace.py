from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import Busy, ConfigurationError
from pipeline.workspace import LOCK_HELD, Workspace

HOLDER = """
import sys, time
from pathlib import Path
from pipeline.workspace import Workspace
with Workspace(Path(sys.argv[1])).hold("a test"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the lock of the workspace at ``tmp_path``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_is_refused_at_once_and_told_who_holds(tmp_path, holder):
    start = time.monotonic()
    with (
        pytest.raises(Busy, match=f"a test \\(process {holder.pid}\\) holds the workspace"),
        Workspace(tmp_path).hold("second"),
    ):
        pass
    assert time.monotonic() - start < 1
    assert Busy.exit_code == 75


def test_a_killed_holder_leaves_no_lock(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with Workspace(tmp_path).hold("second"):
        pass


def test_a_child_of_the_holder_shares_its_lock(tmp_path):
    with Workspace(tmp_path).hold("parent"):
        subprocess.run(
            [sys.executable, "-c", HOLDER.replace("60", "0"), str(tmp_path)], check=True, timeout=30
        )
    assert LOCK_HELD not in os.environ


def test_two_workspaces_do_not_hinder_each_other(tmp_path, holder):
    other = tmp_path / "other"
    other.mkdir()
    with Workspace(other).hold("elsewhere"):
        pass


def test_an_experiment_in_a_copy_belongs_to_the_project_it_was_copied_from(tmp_path):
    copy = Workspace(tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmpab12")
    assert copy.home == tmp_path
    assert copy.mlflow == tmp_path / "mlflow"
    assert copy.manifest.is_relative_to(copy.root)
    assert Workspace(tmp_path).home == tmp_path


def test_a_folder_without_params_is_no_workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"no params\.yaml here"):
        Workspace.here()
