"""A small project like this one, in a folder of its own: for tests of whole pipelines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

PROJECT = Path(__file__).resolve().parent.parent
CODE = (
    "src",
    "flows",
    "mlflow/server.py",
    "dvc.yaml",
    ".dvcignore",
    ".gitignore",
    "pyproject.toml",
    "reference.json",
)


@dataclass(frozen=True)
class SmallProject:
    """A git and DVC repository with this checkout's code, small settings and synthetic images."""

    root: Path

    def run(
        self, *command: str, check: bool = True, timeout: float = 280, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``command`` in the project, with this test's interpreter first on the path.

        With ``check``, a command that fails fails the test, which shows all it printed.
        """
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment() | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def environment(self) -> dict[str, str]:
        binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return os.environ | {"PATH": binaries, "PYTHONPATH": str(self.root / "src")}

    def pipeline(self, *arguments: str, **kwargs: bool) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "pipeline", *arguments, **kwargs)

    def dvc(self, *arguments: str, **kwargs: bool) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "dvc", *arguments, **kwargs)

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", message)

    def edit_params(self, **changes: object) -> None:
        """Set values in params.yaml at dotted keys (``__`` for a dot); ``...`` removes the key."""
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
        for dotted, value in changes.items():
            *parents, last = dotted.split("__")
            node = params
            for key in parents:
                node = node[key]
            if value is ...:
                del node[last]
            else:
                node[last] = value
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def write_class_folders(folder: Path, *, images_per_class: int = 60, side: int = 40) -> None:
    """Two classes a small CNN can tell apart: dark discs and bright bars, on noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    for i in range(images_per_class):
        disc = rng.integers(90, 150, (side, side))
        y, x = rng.integers(12, side - 12, 2)
        disc[(rows - y) ** 2 + (columns - x) ** 2 < 60] -= 70
        bar = rng.integers(90, 150, (side, side))
        bar[:, x : x + 4] += 90
        for name, pixels in (("disc", disc), ("bar", bar)):
            path = folder / name / f"{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)


def make_small_project(root: Path) -> SmallProject:
    """Copy the code, make settings that train in seconds, and a source of synthetic images."""
    for name in CODE:
        source, target = PROJECT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(
                source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy(source, target)
    write_class_folders(root.parent / f"{root.name}-source")
    shutil.copy(PROJECT / "params.yaml", root / "params.yaml")
    project = SmallProject(root)
    small = {"model": "small_cnn", "epochs": 2, "lr": 0.02, "image_size": 32}
    project.edit_params(
        ingest__source=str(root.parent / f"{root.name}-source"),
        ingest__table=None,
        ingest__label=None,
        ingest__weight=None,
        validation__min_images_per_class=5,
        augment__image_size=32,
        train__image_size=32,
        train__precision="float32",
        train__memory_format="channels_last",
        train__batch_size=16,
        train__optimizer="sgd",
        variants={"first": small, "second": small | {"lr": 0.01, "seed": 1}},
        evaluate__resamples=200,
        evaluate__sections=["numbers", "confusion", "mistakes", "corruptions", "cost"],
        evaluate__corruptions={"images": 8},
        register__model="shapes",
        register__resamples=200,
    )
    project.run("git", "init", "-q")
    project.run("git", "config", "user.name", "test")
    project.run("git", "config", "user.email", "test@example.org")
    project.dvc("init", "-q")
    project.dvc("config", "core.analytics", "false")
    return project
