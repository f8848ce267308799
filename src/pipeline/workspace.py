"""Where every file of the project lies, and the lock that lets one run at a time change it.

Paths are named here and nowhere else. ``dvc exp run --temp`` and queued experiments run in a copy
of the project below ``.dvc/tmp/exps``: their inputs and outputs belong to that copy, while the
MLflow store, the registry and the caches belong to the project itself (`Workspace.home`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import Busy, ConfigurationError

LOCK_HELD = "PIPELINE_LOCK_HELD"
"""Environment variable: the lock file that a parent process of ours already holds."""


@dataclass(frozen=True)
class Workspace:
    """The files of one checkout. ``root`` is absolute and holds ``params.yaml``."""

    root: Path

    @classmethod
    def here(cls) -> Workspace:
        """The workspace of the working directory.

        Raises:
            ConfigurationError: there is no ``params.yaml`` in the working directory.
        """
        root = Path.cwd()
        if not (root / "params.yaml").is_file():
            raise ConfigurationError(
                f"{root}: no params.yaml here; run the command in the project's top folder"
            )
        return cls(root)

    @property
    def home(self) -> Path:
        """The project's own folder, also when ``root`` is a DVC experiment's temporary copy."""
        parts = self.root.parts
        for i in range(len(parts) - 2):
            if parts[i : i + 3] == (".dvc", "tmp", "exps"):
                return Path(*parts[:i])
        return self.root

    # Inputs.
    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def presets(self) -> Path:
        """Recipes that `presets.apply` writes into params.yaml; tracked by git."""
        return self.root / "presets"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def data_dvc(self) -> Path:
        return self.root / "data.dvc"

    @property
    def reference(self) -> Path:
        """What the data is compared with; tracked by git."""
        return self.root / "reference.json"

    @property
    def metadata(self) -> Path:
        return self.data / "metadata.csv"

    @property
    def classes(self) -> Path:
        return self.data / "classes.json"

    # Outputs of the stages, in the order of the journey.
    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def manifest(self) -> Path:
        return self.artifacts / "manifest.parquet"

    @property
    def accepted(self) -> Path:
        return self.artifacts / "accepted.parquet"

    @property
    def quarantine(self) -> Path:
        return self.artifacts / "quarantine.csv"

    @property
    def validation(self) -> Path:
        return self.artifacts / "validation"

    @property
    def split(self) -> Path:
        return self.artifacts / "split.parquet"

    @property
    def packed(self) -> Path:
        return self.artifacts / "packed"

    @property
    def preview(self) -> Path:
        return self.artifacts / "augmentation.png"

    def model(self, variant: str) -> Path:
        return self.artifacts / "models" / variant

    def evaluation(self, variant: str) -> Path:
        return self.artifacts / "evaluation" / variant

    def report(self, variant: str) -> Path:
        return self.artifacts / "reports" / variant

    def index(self, variant: str) -> Path:
        """The embeddings of all images by the variant, for ``python -m pipeline search``."""
        return self.artifacts / "index" / variant

    @property
    def leaderboard(self) -> Path:
        return self.artifacts / "leaderboard.csv"

    @property
    def curves(self) -> Path:
        """The curves of all variants side by side, for ``dvc plots``."""
        return self.artifacts / "curves"

    @property
    def comparison(self) -> Path:
        """The page of all variants side by side."""
        return self.artifacts / "comparison"

    @property
    def selection(self) -> Path:
        return self.artifacts / "selection.json"

    # Kept outside DVC and git.
    def labels(self, variant: str) -> Path:
        """What the networks of ``variant`` say of the labels, and a person's corrections."""
        return self.root / "labels" / variant

    @property
    def checkpoints(self) -> Path:
        return self.home / "checkpoints"

    @property
    def state(self) -> Path:
        """Locks, caches and messages between processes; safe to delete when nothing runs."""
        return self.home / ".pipeline"

    @property
    def mlflow(self) -> Path:
        """The folder of MLflow's sqlite store and artifacts."""
        return self.home / "mlflow"

    @contextlib.contextmanager
    def hold(self, purpose: str) -> Iterator[None]:
        """Hold the workspace's lock: one run at a time may change data, outputs and registry.

        A child process of the holder shares its lock. The kernel drops the lock when the holder
        dies, however it dies.

        Raises:
            Busy: another process holds it.
        """
        lock = self.root / ".pipeline" / "lock"
        if os.environ.get(LOCK_HELD) == str(lock):
            yield
            return
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another run"
                raise Busy(
                    f"{self.root}: {holder} holds the workspace; wait until it ends, then try again"
                ) from None
            file.seek(0)
            file.truncate()
            file.write(f"{purpose} (process {os.getpid()})")
            file.flush()
            os.environ[LOCK_HELD] = str(lock)
            try:
                yield
            finally:
                del os.environ[LOCK_HELD]
                file.seek(0)
                file.truncate()
