"""Which variants are trained side by side, and on which GPUs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from prefect.futures import PrefectFuture, as_completed

from flows.execution import StageFailed
from pipeline.console import logger
from pipeline.params import Params

Slot = dict[str, str]
"""Environment variables of the stages that run in one of the places side by side."""


def run_chains(
    chains: Sequence[Sequence[str]],
    slots: Sequence[Slot],
    submit: Callable[[str, Slot], PrefectFuture[Any]],
) -> list[StageFailed]:
    """Run the stages of each chain one after another, and as many chains at once as ``slots``.

    A stage that fails ends its chain alone. Returns the failures.
    """
    waiting, free = deque(chains), deque(slots)
    running: dict[PrefectFuture[Any], tuple[Sequence[str], Slot]] = {}
    failures = []
    while waiting or running:
        while waiting and free:
            chain, slot = waiting.popleft(), free.popleft()
            running[submit(chain[0], slot)] = (chain[1:], slot)
        done = next(iter(as_completed(list(running))))
        rest, slot = running.pop(done)
        try:
            done.result()
        except StageFailed as failure:
            failures.append(failure)
            rest = ()
            if waiting or running:
                logger.error("%s; the other variants go on", failure)
        if rest:
            running[submit(rest[0], slot)] = (rest[1:], slot)
        else:
            free.append(slot)
    return failures


def slots(params: Params) -> list[Slot]:
    """The places for variants: ``flow.parallel_variants`` of them, ``auto``: all that have GPUs.

    Each has GPUs of its own as far as there are enough, for variants that do not name one: as many
    as the variant with the most ``processes`` wants, since any may take any place.
    """
    variants = params.variants.values()
    devices = {variant.device for variant in variants}
    gpus = visible_gpus() if devices <= {"auto", "cuda"} else []
    asked = (len(gpus) if v.processes == "auto" else v.processes for v in variants)
    size = min(max(asked), len(gpus))
    wanted = params.flow.parallel_variants
    count = max(1, len(gpus) // max(1, size)) if wanted == "auto" else wanted
    count = min(count, len(params.variants))
    if not gpus:
        return [{} for _ in range(count)]
    own = [[gpus[i % len(gpus)] for i in range(n * size, (n + 1) * size)] for n in range(count)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(place)} for place in own]


def visible_gpus() -> list[str]:
    """The GPUs that a process started here may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu.strip() for gpu in chosen.split(",") if gpu.strip() not in {"", "-1"}]
    import pynvml

    try:
        pynvml.nvmlInit()
        return [str(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
