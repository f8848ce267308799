"""A project whose stages take no time: this checkout's flows over a pipeline of a few lines."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import yaml

T = TypeVar("T")

PROJECT = Path(__file__).resolve().parents[2]

STAGES = """
stages:
  scan:
    cmd: python stage.py scan
    deps: [data.txt, stage.py]
    outs: [artifacts/scan.txt]
  validate:
    cmd: python stage.py validate
    deps: [artifacts/scan.txt]
    outs: [artifacts/validate.txt]
  split:
    cmd: python stage.py split
    deps: [artifacts/validate.txt]
    outs: [artifacts/split.txt]
  augment:
    cmd: python stage.py augment
    deps: [artifacts/split.txt]
    outs: [artifacts/augment.txt]
  train:
    foreach: ${variants}
    do:
      cmd: python stage.py train.${key}
      deps: [artifacts/augment.txt]
      outs:
        - artifacts/train.${key}.txt
  evaluate:
    foreach: ${variants}
    do:
      cmd: python stage.py evaluate.${key}
      deps:
        - artifacts/train.${key}.txt
      outs:
        - artifacts/evaluate.${key}.txt
  index:
    foreach: ${variants}
    do:
      cmd: python stage.py index.${key}
      deps:
        - artifacts/train.${key}.txt
      outs:
        - artifacts/index.${key}.txt
  compare:
    cmd: python stage.py compare
    deps: [artifacts]
    outs: [leaderboard.done]
"""

STAGE = '''
"""A stage that does what plan/NAME says, as Python, and then writes its output."""
import json, os, pathlib, subprocess, sys, time

name = sys.argv[1]
started = time.time()
print("12:34:56 this is", name, flush=True)


def fail(code, message):
    pathlib.Path(os.environ["PIPELINE_FAILURE_FILE"]).write_text(
        json.dumps({"exit_code": code, "message": message})
    )
    print(message, flush=True)
    sys.exit(code)


plan = pathlib.Path("plan", name)
if plan.exists():
    exec(plan.read_text())
times = pathlib.Path("times")
times.mkdir(exist_ok=True)
(times / name).write_text(f"{started} {time.time()}")
output = pathlib.Path("artifacts", name + ".txt")
if name == "compare":
    output = pathlib.Path("leaderboard.done")
output.parent.mkdir(exist_ok=True)
output.write_text(name)
'''

PIPELINE = '''
"""Stands for `python -m pipeline` where no stage of DVC is run."""
import json, os, pathlib, sys

words = [word for word in sys.argv[1:] if word != "--"]
print("pipeline", *words, flush=True)
with open("commands", "a") as file:
    file.write(" ".join(words) + "\\n")


def fail(code, message):
    pathlib.Path(os.environ["PIPELINE_FAILURE_FILE"]).write_text(
        json.dumps({"exit_code": code, "message": message})
    )
    print(message, flush=True)
    sys.exit(code)


plan = pathlib.Path("plan", words[0])
if plan.exists():
    exec(plan.read_text())
if words[0] == "register":
    print("version 1 is the champion")
'''

LEADERBOARD = """\
rank,variant,parameters,val_balanced_accuracy,val_balanced_accuracy_low,\
val_balanced_accuracy_high,test_balanced_accuracy,test_balanced_accuracy_low,\
test_balanced_accuracy_high,test_accuracy,test_accuracy_low,test_accuracy_high,\
test_auroc,test_auroc_low,test_auroc_high
1,b,1234567,0.9,0.88,0.92,0.8,0.78,0.82,0.81,0.79,0.83,,,
2,a,1234,0.7,0.68,0.72,0.6,0.58,0.62,0.61,0.59,0.63,0.5,0.4,0.6
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], T], seconds: float = 60) -> T:
    """The first true value of ``condition``; the test fails where it stays away."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return value


@dataclass(frozen=True)
class TinyProject:
    """See the module."""

    root: Path

    def plan(self, stage: str, code: str) -> None:
        """Let ``stage`` run ``code``, which may call ``fail(exit_code, message)``."""
        path = self.root / "plan" / stage
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(code), encoding="utf-8")

    def edit_flow(self, **values: object) -> None:
        """Set keys of ``flow`` in params.yaml."""
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
        params["flow"] |= values
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    @property
    def ports(self) -> dict[str, int]:
        params = yaml.safe_load((self.root / "params.yaml").read_text(encoding="utf-8"))
        return params["flow"]["ports"]

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.root), str(PROJECT / "src")])
        return os.environ | {"PYTHONPATH": path, "COLUMNS": "120"}

    def start(self, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        """``python ARGUMENTS…`` with its output in a pipe, in a session of its own."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=cwd or self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, cwd=cwd)
        try:
            output, _ = process.communicate(timeout=240)
        finally:
            end(process)
        return subprocess.CompletedProcess(arguments, process.returncode, output)

    def flow(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", f"flows.{name}", *arguments)

    def processes(self) -> list[str]:
        """The command lines of all processes that work in this project."""
        return [
            " ".join(process.info["cmdline"] or [])
            for process in psutil.process_iter(["cwd", "cmdline"])
            if process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(self.root)
        ]

    def database(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of Prefect's database, once its server has ended."""
        with contextlib.closing(sqlite3.connect(self.root / ".prefect" / "prefect.db")) as store:
            return store.execute(query).fetchall()

    def password(self) -> str:
        return (self.root / ".prefect" / "auth").read_text(encoding="utf-8").strip()

    def ran(self, stage: str) -> tuple[float, float]:
        """When ``stage`` started and ended."""
        start, end = (self.root / "times" / stage).read_text(encoding="utf-8").split()
        return float(start), float(end)


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
    process.wait(timeout=30)
    if process.stdout is not None:
        process.stdout.close()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def make_tiny_project(root: Path) -> TinyProject:
    shutil.copytree(PROJECT / "flows", root / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    write(root / "dvc.yaml", STAGES)
    write(root / "stage.py", STAGE)
    write(root / "data.txt", "data")
    write(root / "src" / "pipeline" / "__init__.py", "")
    write(root / "src" / "pipeline" / "__main__.py", PIPELINE)
    write(root / "artifacts" / "leaderboard.csv", LEADERBOARD)
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params["variants"] = {"a": {"model": "small_cnn"}, "b": {"model": "small_cnn"}}
    write(root / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    command = [sys.executable, "-m", "dvc", "init", "-q", "--no-scm"]
    subprocess.run(command, cwd=root, check=True)
    return TinyProject(root)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every tiny project is a copy of: DVC takes a second to set one up."""
    return make_tiny_project(tmp_path_factory.mktemp("template") / "tiny").root


@pytest.fixture(scope="session")
def warm_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the databases of Prefect and MLflow, whose making takes many seconds."""
    root = shutil.copytree(template, tmp_path_factory.mktemp("warm") / "tiny")
    code = """
from flows import command, server
from pipeline.tracking import open_store
workspace, params = command.open_project()
with server.connected(params.flow.ports.prefect, workspace.state / "server.log"):
    open_store(workspace)
"""
    done = TinyProject(root).run("-c", code)
    assert done.returncode == 0, done.stdout
    return root


@pytest.fixture
def tiny(tmp_path: Path, template: Path) -> Iterator[TinyProject]:
    """A tiny project; what still runs in it when the test ends is ended."""
    yield from _copy(template, tmp_path)


@pytest.fixture
def warm(tmp_path: Path, warm_template: Path) -> Iterator[TinyProject]:
    """The same, in which servers have run before."""
    yield from _copy(warm_template, tmp_path)


def _copy(template: Path, folder: Path) -> Iterator[TinyProject]:
    project = TinyProject(shutil.copytree(template, folder / "tiny"))
    project.edit_flow(ports={"mlflow": free_port(), "prefect": free_port()})
    yield project
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(project.root):
            process.kill()
