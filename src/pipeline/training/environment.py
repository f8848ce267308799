"""The process a training runs in: the same bits every time, and no trainer left behind."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

import torch

from pipeline.errors import ConfigurationError
from pipeline.vision.allocator import keep_freed_memory

LAST_RESORT = 8.0
"""Seconds from SIGTERM to the end of a process that does not come to itself."""

_TERMINATED = 128 + signal.SIGTERM


def resolve_device(name: str) -> torch.device:
    """The device that ``train.device`` names: ``auto`` is the GPU where there is one.

    A GPU has its number, as the device of each tensor on it has: only so do the two compare equal.

    Raises:
        ConfigurationError: a GPU is named that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
    if device.type == "cuda" and device.index >= torch.cuda.device_count():
        raise ConfigurationError(
            f"train.device: '{name}' is not there, PyTorch {torch.__version__} finds"
            f" {torch.cuda.device_count()} GPUs; set it to auto or cpu, or look at what nvidia-smi"
            " and CUDA_VISIBLE_DEVICES say"
        )
    return device


def release_memory(device: torch.device) -> None:
    """Free what nothing uses any more of a GPU's memory; on a CPU nothing happens."""
    if device.type == "cuda":
        gc.collect()  # a CUDA graph, and the network it replays, is part of a cycle
        torch.cuda.empty_cache()


def derived_seed(*parts: object) -> int:
    """A seed that follows from ``parts`` alone: 63 bits of the hash of their text."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Compute by deterministic kernels; PyTorch's switches, threads and random state are put back.

    The process keeps the memory it frees from then on (`keep_freed_memory`).

    On a GPU a network that has no deterministic kernel trains too, with PyTorch's warning that its
    bits may differ from run to run. It is the current one meanwhile: streams, graphs and events are
    the current GPU's, whichever the tensors lie on.
    """
    keep_freed_memory()
    # cuBLAS reads it when it starts, which is at the first product on the GPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    memory: Any = torch.utils.deterministic
    threads, fill = torch.get_num_threads(), memory.fill_uninitialized_memory
    # As `torch.use_deterministic_algorithms`, which would import the compiler to tell it too.
    mode = torch.get_deterministic_debug_mode()
    on_gpu = device.type == "cuda"
    try:
        torch.set_deterministic_debug_mode("warn" if on_gpu else "error")
        # Filling new memory finds reads of what was never written; equal bits do not need it.
        memory.fill_uninitialized_memory = False
        with (
            torch.cuda.device(device) if on_gpu else contextlib.nullcontext(),
            torch.random.fork_rng([device] if on_gpu else []),
        ):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)
        memory.fill_uninitialized_memory = fill


@contextlib.contextmanager
def ending_cleanly() -> Iterator[None]:
    """End with exit code 143 on SIGTERM, releasing what is held, within `LAST_RESORT` seconds.

    The last epoch's checkpoint is then what the next run goes on from.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        with _last_resort():
            yield
    except SystemExit as ended:
        if ended.code == _TERMINATED:
            # All is released; to take down an interpreter with PyTorch in it takes seconds more.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(_TERMINATED)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise SystemExit(_TERMINATED)


@contextlib.contextmanager
def _last_resort() -> Iterator[None]:
    """End the process where it has not ended by itself some seconds after SIGTERM.

    Python answers a signal between two instructions of its main thread. That may be away for long:
    in a kernel of the GPU, or waiting for another process that has ended. The kernel drops the
    locks it holds, and a checkpoint that is being written never takes the place of the last one.
    """
    ended = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] == signal.SIGTERM and not ended.wait(LAST_RESORT):
                os._exit(_TERMINATED)
        os.close(reader)

    threading.Thread(target=watch, name="last-resort", daemon=True).start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        os.close(writer)
