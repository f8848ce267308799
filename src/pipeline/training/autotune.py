"""How a network is best computed on this machine: measured once, then pinned.

Which of float32 and bfloat16 is faster depends on the network as much as on the machine: a ResNet
may run twice as fast in bfloat16 where the depthwise convolutions of a MobileNet run slower. So a
few real steps of each are timed, and the winner is kept in the machine's state folder, in the
checkpoint and in ``model.json``: the same plan on the same machine gives the same bits.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from pipeline.artifacts import read_json, write_json
from pipeline.console import logger

Precision = Literal["float32", "bfloat16"]
CANDIDATES: tuple[Precision, ...] = ("float32", "bfloat16")

SHORT_RUN = 100  # steps; in fewer, measuring costs more than it can gain
ROUNDS = 3
SECONDS = 2.0
MIN_GAIN = 1.1  # what bfloat16 has to be faster by: noise should not decide a close race


@dataclass(frozen=True)
class Plan:
    """How the steps of a training are computed."""

    precision: Precision
    threads: int
    """Of the CPU. Sums are split among them, so that their number shapes the last bits."""
    memory_format: Literal["channels_last"] = "channels_last"
    """What the convolutions of CPUs and of tensor cores want."""


def choose_plan(
    make_step: Callable[[Plan], Callable[[], object]],
    *,
    precision: Literal["auto", "float32", "bfloat16"],
    device: torch.device,
    steps: int,
    case: Mapping[str, Any],
    folder: Path,
) -> Plan:
    """The plan for a training of ``steps`` steps.

    Args:
        make_step: gives a function that runs one real training step, of a scratch copy of the
            network, by the given plan.
        precision: as in ``params.yaml``; only ``auto`` is measured, at most about `SECONDS` long.
        case: what the speed depends on beside the machine: the network and its sizes.
        folder: of the plans that were measured, a file for each machine and case.
    """
    threads = torch.get_num_threads()
    if precision != "auto":
        return Plan(precision, threads)
    if steps < SHORT_RUN or not has_bfloat16(device):
        return Plan("float32", threads)

    identity = {**case, **_machine(device)}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    pinned = folder / f"{digest[:32]}.json"
    if not pinned.exists():
        seconds = measure({p: make_step(Plan(p, threads)) for p in CANDIDATES}, device)
        faster = seconds["float32"] / seconds["bfloat16"]
        fastest: Precision = "bfloat16" if faster >= MIN_GAIN else "float32"
        logger.info(
            "plan: %s; a step in bfloat16 is %.2f times as fast as in float32", fastest, faster
        )
        measured = {name: float(f"{value:.3g}") for name, value in seconds.items()}
        write_json(pinned, {**identity, "precision": fastest, "seconds_per_step": measured})
    return Plan(read_json(pinned)["precision"], threads)


def measure(
    candidates: Mapping[Precision, Callable[[], object]], device: torch.device
) -> dict[Precision, float]:
    """Seconds of each candidate's fastest step, the first not counted; rounds are interleaved."""
    deadline = time.perf_counter() + SECONDS
    for step in candidates.values():
        _seconds(step, device)
    fastest = dict.fromkeys(candidates, float("inf"))
    for _ in range(ROUNDS):
        for precision, step in candidates.items():
            fastest[precision] = min(fastest[precision], _seconds(step, device))
        if time.perf_counter() > deadline:
            break
    return fastest


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def has_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` computes in bfloat16 itself rather than emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    words = {word for line in _cpu_lines() for word in line.split()}
    return device.type == "cpu" and not words.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def _machine(device: torch.device) -> dict[str, str | int]:
    # The flags tell processors apart whose names a virtual machine hides.
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "\n".join(_cpu_lines())
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def _cpu_lines() -> list[str]:
    """What Linux tells of the processor: its name and what it can do, on x86 and on Arm."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return [platform.machine()]
    return sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
