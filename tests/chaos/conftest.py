"""A project whose training takes some seconds, saves each epoch and keeps every checkpoint."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from pipeline.artifacts import sha256_file
from tests.project import SmallProject, make_small_project

T = TypeVar("T")

EPOCHS = 25
SETTINGS = {
    "model": "small_cnn",
    "architecture": {"width": 16},
    "optimizer": "adamw",
    "epochs": EPOCHS,
    "lr": 0.005,
    "image_size": 32,
}


def wait_for(condition: Callable[[], T], seconds: float = 60) -> T:
    """The first true value of ``condition``; the test fails where it stays away."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


@dataclass(frozen=True)
class Training:
    """See the module."""

    project: SmallProject

    @property
    def root(self) -> Path:
        return self.project.root

    def checkpoints(self) -> list[str]:
        """The names of all that were saved. Each holds the hash of weights, optimiser, history."""
        found = self.root.glob("checkpoints/*/[0-9]*.safetensors")
        return sorted(path.name for path in found)

    def torn(self) -> list[Path]:
        """Checkpoints that are being written, or were when their trainer was killed."""
        return list(self.root.glob("checkpoints/*/.*.safetensors"))

    def weights(self) -> str:
        """The hash of the result."""
        return sha256_file(self.root / "artifacts" / "models" / "first" / "weights.safetensors")

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """``python COMMAND…`` in the project, in a session of its own."""
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.root,
            env=self.project.environment() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def repro(self) -> None:
        """As `make repro` does, but for one stage."""
        self.project.pipeline("data", "restore")
        self.project.dvc("repro", "--single-item", "train@first")

    def processes(self, words: str = "") -> list[psutil.Process]:
        """What runs in this project with ``words`` in its command line."""
        found = []
        for process in psutil.process_iter(["cwd", "cmdline", "status"]):
            cwd, line = process.info["cwd"], " ".join(process.info["cmdline"] or [])
            if cwd and Path(cwd).is_relative_to(self.root) and words in line:
                found.append(process)
        return found

    def trainers(self) -> list[psutil.Process]:
        running = self.processes("pipeline train first")
        return [process for process in running if "sh" not in process.name()]

    def kill_all(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def forget(self) -> None:
        """Make the training one that was never begun."""
        for name in ("checkpoints", "artifacts/models", ".dvc/cache/runs", "mlflow/mlflow.db"):
            path = self.root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.copy(self.root / "dvc.lock.before", self.root / "dvc.lock")


def without_mlflow(root: Path) -> None:
    """Let the code in ``root`` find no MLflow, whose set-up takes longer than these trainings."""
    rewrite(
        root / "src/pipeline/tracking/store.py", "def available() -> bool:\n", "    return False\n"
    )


def rewrite(path: Path, after: str, insert: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(after) == 1, (path, after)
    path.write_text(text.replace(after, after + insert), encoding="utf-8")


@pytest.fixture(scope="session")
def _one_thread() -> Iterator[None]:
    """Networks this small are faster so, and do not wait for a busy machine's second core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory, _one_thread: None) -> Path:
    """The project as its training begins."""
    project = make_small_project(tmp_path_factory.mktemp("chaos") / "project")
    code = project.root / "src" / "pipeline" / "training"
    rewrite(code / "fit.py", "SAVE_EVERY = ", "0 * ")
    rewrite(code / "checkpoint.py", "self._newest_first()[", "1000 * ")
    project.edit_params(variants={"first": SETTINGS})
    project.pipeline("ingest")
    project.commit("code and data")
    project.dvc("repro", "augment")
    shutil.copy(project.root / "dvc.lock", project.root / "dvc.lock.before")
    return project.root


@pytest.fixture
def prepared(_prepared: Path, tmp_path: Path) -> Iterator[Training]:
    """The project as its training begins; what still runs in it when the test ends is ended."""
    root = shutil.copytree(_prepared, tmp_path / "project", symlinks=True)
    training = Training(SmallProject(root))
    yield training
    training.kill_all()


@pytest.fixture
def training(prepared: Training) -> Training:
    """The same without MLflow."""
    without_mlflow(prepared.root)
    return prepared


@pytest.fixture(scope="session")
def undisturbed(_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """After a training that nothing has disturbed."""
    root = shutil.copytree(
        _prepared, tmp_path_factory.mktemp("undisturbed") / "project", symlinks=True
    )
    without_mlflow(root)
    training = Training(SmallProject(root))
    training.repro()
    assert len(training.checkpoints()) == EPOCHS
    return training


def end(process: subprocess.Popen[str]) -> str:
    """Kill what is left of its session; returns what it has printed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    return output
