"""A training's run in MLflow, written while the training goes on and never in its way.

The journal is what happened; the run is its copy. A thread compares the two and adds what the run
lacks, so it does not matter when the store is away, for how long, or what arrived before it went:
after each failure the thread reads anew what the run holds.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import journal as journals
from pipeline.console import logger
from pipeline.tracking.runs import (
    KIND,
    TRAINING_KEY,
    Status,
    create_run,
    describe_training,
    end_run,
    find_runs,
    log_rows,
    now_ms,
    rows_of,
    take_in,
)
from pipeline.tracking.store import available, first_line, open_store, store_uri
from pipeline.workspace import Workspace

POLL = 1.0
"""Seconds between two looks at the journal."""
PATIENCE = 20.0
"""Seconds to wait for the first epoch before MLflow is imported: that takes the interpreter from a
training that is still setting up, and a run without any row tells little."""
LONGEST_PAUSE = 30.0
"""Seconds between two attempts while the store is away."""
FLUSH = 30.0
"""Seconds that a finished training waits for its last rows to arrive."""
FLUSH_KILLED = 5.0
"""The same where somebody is waiting for the process to end."""


class Mirror:
    """What a training tells of itself beside its journal; `mirror` gives it."""

    def __init__(self) -> None:
        self.weights_sha256: str | None = None

    def finish(self, weights_sha256: str) -> None:
        """Say that the training is done; ``weights_sha256`` is of ``weights.safetensors``."""
        self.weights_sha256 = weights_sha256


@contextlib.contextmanager
def mirror(
    workspace: Workspace,
    journal: Path,
    *,
    run_name: str,
    training_key: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
) -> Iterator[Mirror]:
    """Replay ``journal`` to MLflow from a thread while the body trains.

    A training that is resumed goes on in the run it had. The run ends as FINISHED if the body
    called `Mirror.finish`, as KILLED if it was interrupted, else as FAILED. MLflow that is missing
    or away costs a line in the log: ``python -m pipeline sync`` makes up for it later.

    Args:
        workspace: whose store is used.
        journal: the file that a `Journal` writes; need not exist yet.
        run_name: of the run, the variant's name, with what was learned before it as its own run.
        training_key: the hash of all that shapes the training's result.
        params: the training's settings; may be nested.
        tags: of the run; ``variant`` and ``data_digest`` among them.
    """
    mirrored = Mirror()
    if not available():
        logger.info("MLflow is not installed here; the training is recorded in %s alone", journal)
        yield mirrored
        return
    training = _Training(workspace, journal, run_name, training_key, params, tags, now_ms())
    replay = _Replay(training, mirrored)
    replay.start()
    try:
        yield mirrored
    except BaseException as error:
        replay.end("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    replay.end("FINISHED" if mirrored.weights_sha256 else "FAILED")


@dataclass(frozen=True)
class _Training:
    workspace: Workspace
    journal: Path
    run_name: str
    key: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    begun_ms: int


class _Replay(threading.Thread):
    """The thread; a daemon, so that a store that hangs cannot keep the process."""

    def __init__(self, training: _Training, mirrored: Mirror) -> None:
        super().__init__(name="mlflow-mirror", daemon=True)
        self._training, self._mirrored = training, mirrored
        self._ended = threading.Event()
        self._status: Status = "FAILED"
        self._deadline = float("inf")
        self._away = False

    def end(self, status: Status) -> None:
        """Let the thread log what is left and end the run; waits for that, but not for ever."""
        self._status = status
        seconds = FLUSH_KILLED if status == "KILLED" else FLUSH
        self._deadline = time.monotonic() + seconds
        self._ended.set()
        self.join(seconds)
        if self.is_alive():
            self._report("did not answer in time")

    def run(self) -> None:
        self._wait_for_first_row()
        connection: _Connection | None = None
        pause = POLL
        while True:
            ended = self._ended.is_set()
            if ended and connection is None and self._nothing_to_tell():
                return
            try:
                connection = connection or _Connection(self._training)
                connection.push()
                if ended:
                    connection.end(self._status, self._mirrored.weights_sha256)
                    return
                if self._away:
                    logger.info("MLflow at %s answers again", store_uri(self._training.workspace))
                self._away, pause = False, POLL
            except Exception as error:  # noqa: BLE001 (no fault of MLflow's may end a training)
                was_away, connection = self._away, None
                self._report(first_line(error))
                if ended and (was_away or time.monotonic() > self._deadline):
                    return
                pause = POLL if ended else min(2 * pause, LONGEST_PAUSE)
            if ended:
                time.sleep(pause)
            else:
                self._ended.wait(pause)

    def _wait_for_first_row(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not self._ended.wait(min(POLL, PATIENCE)):
            if journals.read(self._training.journal):
                return

    def _nothing_to_tell(self) -> bool:
        """A training that failed before its first epoch leaves no run."""
        return self._status != "FINISHED" and not journals.read(self._training.journal)

    def _report(self, reason: str) -> None:
        if not self._away:
            logger.warning(
                "MLflow at %s: %s; that does not touch the training. Its metrics are kept in %s,"
                " and 'python -m pipeline sync' brings to MLflow what does not get there by itself",
                store_uri(self._training.workspace),
                reason,
                self._training.journal,
            )
        self._away = True


class _Connection:
    """The open store, the training's run in it, and which of the journal's rows that holds."""

    def __init__(self, training: _Training) -> None:
        self._training = training
        self._store = open_store(training.workspace)
        self._journaled: int | None = None
        entries = journals.read(training.journal)
        run = self._earlier_run(entries)
        if run is None:
            run = create_run(
                training.workspace,
                self._store,
                training.run_name,
                command=f"train {training.tags['variant']}",
                tags={KIND: "training", **training.tags, TRAINING_KEY: training.key},
                start_ms=min([training.begun_ms, *(entry.time_ms for entry in entries)]),
            )
        else:
            take_in(self._store, run)
        self._run_id: str = run.info.run_id
        describe_training(
            training.workspace,
            self._store,
            run,
            params=training.params,
            data_digest=training.tags["data_digest"],
        )

    def _earlier_run(self, entries: list[journals.Entry]) -> Any | None:
        """The run that holds nothing but rows of this journal: the one this training had before.

        A run of the same training that has others was made by an earlier execution, whose journal
        is gone.
        """
        ours = {(key, entry.step, entry.time_ms) for entry in entries for key in entry.metrics}
        for run in find_runs(self._store, {TRAINING_KEY: self._training.key}):
            rows = rows_of(self._store, run, {key for key, _, _ in ours} or run.data.metrics)
            if rows <= ours:
                self._held = {(key, step) for key, step, _ in rows}
                return run
        self._held = set()
        return None

    def push(self) -> None:
        """Log what the journal has and the run has not."""
        path = self._training.journal
        size = path.stat().st_size if path.exists() else 0
        if size == self._journaled:
            return
        log_rows(self._store, self._run_id, journals.read(path), held=self._held)
        self._journaled = size

    def end(self, status: Status, weights_sha256: str | None) -> None:
        end_run(self._store, self._run_id, status, weights_sha256)
