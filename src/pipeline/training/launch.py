"""Several processes for one training: how they are started, meet, and end.

They are started by PyTorch's own launcher, ``torchrun``'s. It runs in the stage's process, so that
who ends the stage ends all: it passes SIGTERM on, and where it is killed the kernel tells its
children. They meet by a file in a folder that only this user can enter, and talk over the loopback
interface: no port is open to other machines. Of processes that the user has started with
``torchrun``, on one machine or several, all this is the user's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from torch.distributed import FileStore  # type: ignore[attr-defined]

from pipeline.artifacts import read_json, temporary_folder, write_json
from pipeline.console import logger
from pipeline.errors import Busy, ConfigurationError, DataRefused, PipelineError
from pipeline.machine import processors
from pipeline.training.distributed import Group, ProcessLost, Ranks
from pipeline.training.environment import ending_cleanly

FOLDER = "PIPELINE_RANKS"
"""Environment variable: the folder by which the processes that `launch` starts meet and report."""

MOST_PER_PROCESSOR = 4
"""Processes that may share a processor: more than one gains nothing, but to try what several do."""

_ERRORS = {kind.exit_code: kind for kind in (PipelineError, ConfigurationError, DataRefused, Busy)}
_ENDED = (-signal.SIGTERM, 128 + signal.SIGTERM)
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


def launched() -> bool:
    """Whether this process is one of several that ``torchrun`` or `launch` has started.

    Raises:
        ConfigurationError: the environment says so, and lacks what these set.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return False
    missing = [name for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE") if name not in os.environ]
    if missing and os.environ["WORLD_SIZE"] == "1":  # as some clusters say of every job
        return False
    if missing:
        raise ConfigurationError(
            "the environment has RANK and WORLD_SIZE, as of one of several processes, but not"
            f" {' and '.join(missing)}; start the training with torchrun, which sets all four, or"
            " unset these two to train in this process alone"
        )
    return True


def processes_to_launch(
    processes: Literal["auto"] | int, device: torch.device, *, name: str
) -> int:
    """What ``train.processes`` comes to here; 1 in a process that has been launched itself.

    Args:
        processes: the setting.
        device: what ``name`` comes to here.
        name: the setting ``train.device``; where it says which GPU, there is one process.

    Raises:
        ConfigurationError: several processes are to share the GPU that is named, or there are far
            more than processors; or see `launched`.
    """
    if launched():
        return 1
    named = ":" in name
    if processes == "auto":
        return torch.cuda.device_count() if device.type == "cuda" and not named else 1
    if named and processes > 1:
        raise ConfigurationError(
            f"train.processes: {processes} processes need a GPU each, and train.device names one,"
            f" '{name}'; set train.device to cuda, or train.processes to 1"
        )
    if device.type == "cpu" and processes > MOST_PER_PROCESSOR * processors():
        raise ConfigurationError(
            f"train.processes: {processes} processes would wait for each other on {processors()}"
            " processors, each with memory of its own; set as many as there are, or 1"
        )
    return processes


@contextlib.contextmanager
def join(device: torch.device) -> Iterator[Ranks]:
    """Meet the other processes of this training, if there are any, for the time of the body.

    Args:
        device: as the settings name it; of several GPUs each process takes its own.

    Raises:
        ConfigurationError: this machine has fewer GPUs than processes, or see `launched`.
    """
    if not launched():
        yield Ranks(device)
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if rank:
        logger.setLevel(logging.WARNING)  # the first one tells how far all are
    folder = Path(os.environ[FOLDER]) if FOLDER in os.environ else None
    with _reporting(folder, rank):
        device = _own(device)
        store = FileStore(str(folder / "store"), size) if folder else None
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
        yield Group(device)
        # Not after an error: it could wait for processes that wait for this one.
        dist.destroy_process_group()


def _own(device: torch.device) -> torch.device:
    """This process's device, and its share of the machine's threads."""
    beside = int(os.environ["LOCAL_WORLD_SIZE"])
    if device.type == "cuda":
        if beside > torch.cuda.device_count():
            raise ConfigurationError(
                f"train.processes: {beside} processes on a machine need a GPU each, PyTorch finds"
                f" {torch.cuda.device_count()} GPUs; set it to auto, or train.device to cpu"
            )
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // beside))
    return device


@contextlib.contextmanager
def _reporting(folder: Path | None, rank: int) -> Iterator[None]:
    """Leave an error to the launcher that made ``folder``, which shows it once for all."""
    try:
        yield
    except PipelineError as error:
        if folder is None:
            raise
        if not isinstance(error, ProcessLost):
            told = {"time": time.time(), "exit_code": error.exit_code, "message": str(error)}
            write_json(folder / f"failure-{rank}.json", told)
        raise SystemExit(error.exit_code) from None


def launch(processes: int, arguments: Sequence[str]) -> None:
    """Run this Python with ``arguments`` in ``processes`` processes, and wait for all to end.

    Raises:
        PipelineError: one of them ended before its work was done, and so the others were ended; of
            the kind that it raised itself, if it did.
    """
    from torch.distributed.elastic.multiprocessing import api, errors
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("agent.server", "multiprocessing"):  # what these tell is for their developers
        logging.getLogger(f"torch.distributed.elastic.{name}.api").setLevel(logging.CRITICAL)
    with ending_cleanly(), _folder() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            max_restarts=0,  # a training goes on from its checkpoint when it is started again
            rdzv_backend="c10d",
            rdzv_endpoint=str(folder / "launcher"),
            rdzv_configs={"store_type": "file"},
            local_addr="127.0.0.1",
            signals_to_handle="SIGTERM",
            logs_specs=api.DefaultLogsSpecs(log_dir=str(folder)),
        )
        try:
            elastic_launch(config, sys.executable)(*arguments)
        except api.SignalException as ended:
            raise SystemExit(128 + ended.sigval) from None
        except errors.ChildFailedError as error:
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
            raise _cause(folder, processes, codes) from None


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Where the processes meet, and what they find in the environment."""
    before = dict(os.environ)
    with temporary_folder("pipeline-scratch-ranks-") as folder:
        os.environ[FOLDER] = str(folder)
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", _LOOPBACK)
        try:
            yield folder
        finally:
            os.environ.clear()
            os.environ.update(before)


def _cause(folder: Path, processes: int, codes: Mapping[int, int]) -> PipelineError:
    """What the process said whose failure ended the others, or else how it ended.

    Args:
        codes: rank -> exit code of those that failed; -N where signal N ended it.
    """
    told = [read_json(path) for path in folder.glob("failure-*.json")]
    if told:
        first = min(told, key=lambda failure: failure["time"])
        return _ERRORS.get(first["exit_code"], PipelineError)(first["message"])
    # Who was ended for another's sake did so by SIGTERM; who lost another, with exit code 1.
    rank, code = min(codes.items(), key=lambda item: (item[1] in _ENDED, item[1] == 1, item[0]))
    if code > 0:
        how = f"with exit code {code}; what it said stands above"
    else:
        name = signal.Signals(-code).name
        how = f"by {name}" + (", as the system does when memory runs out" * (name == "SIGKILL"))
    return PipelineError(
        f"process {rank} of the {processes} that train together ended {how}. The others were ended"
        " too; run again to go on from the last checkpoint"
    )
