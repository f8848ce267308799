"""How a network is best computed on this machine: measured once, then pinned.

Which precision is faster depends on the network as much as on the machine: a ResNet may run three
times as fast in bfloat16 where the depthwise convolutions of a MobileNet run slower. So what the
settings leave open is decided by races of a few real steps, one question after the other. Results
are kept in the machine's state folder, and the plan in the checkpoint and in ``model.json``: the
same plan on the same machine gives the same bits.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from pipeline.artifacts import read_json, write_json
from pipeline.console import logger
from pipeline.training.plan import Execution, Plan, Precision
from pipeline.training.race import Race, Rounds, Step, other_wins

FORMAT = 2
PREPARATION: dict[str, float] = {"cuda_graphs": 0.5, "compiled": 120.0}
"""Seconds until a way to execute can be measured, and once more until it can train: its passes are
compared with plain ones, and made. Compilers take 20 to 90 seconds for a ResNet."""


@dataclass(frozen=True)
class Asked:
    """What ``train`` in ``params.yaml`` says of a plan."""

    precision: Literal["auto"] | Precision = "auto"
    memory_format: Literal["auto", "channels_last", "contiguous"] = "auto"
    execution: Literal["auto"] | Execution = "auto"

    @property
    def fixed(self) -> dict[str, Any]:
        """The fields of `Plan` that are not to be chosen."""
        values = asdict(self)
        if self.memory_format == "contiguous":
            values["memory_format"] = "contiguous_format"
        return {name: value for name, value in values.items() if value != "auto"}


def choose_plan(
    make_step: Callable[[Plan], Step],
    asked: Asked,
    *,
    device: torch.device,
    steps: int,
    executions: Collection[Execution],
    case: Mapping[str, Any],
    folder: Path,
) -> Plan:
    """The plan for a training of ``steps`` steps like those that ``make_step`` makes.

    Where measuring would take too large a share of the training, what is left open is float32,
    channels last and plain passes. `Race` says what races cost, and `other_wins` who wins one.

    Args:
        make_step: gives a function that makes one real training step, of a scratch copy of the
            network, by the given plan; raises `race.Unusable` where that cannot be.
        executions: those that are possible here.
        case: what the speed depends on beside the machine: the network and its sizes.
        folder: of the races' results, a file for each machine, case and question.
    """
    plan = replace(Plan("float32", torch.get_num_threads()), **asked.fixed)
    race = Race(make_step, steps=steps, device=device)
    identity = {"format": FORMAT, **case, **_machine(device)}
    chosen = plan
    for field, value in _open_questions(asked, device, executions):
        other = replace(chosen, **{field: value})
        question = {**identity, "first": asdict(chosen), "other": asdict(other)}
        rounds = _rounds(race, chosen, other, question, folder)
        preparation = PREPARATION.get(other.execution, 0.0)
        if rounds and race.allowed(min(rounds[0])) >= preparation and other_wins(*rounds):
            chosen = other
        race.keep(chosen)
    if chosen != plan:
        logger.info("plan: %s", chosen)
    return chosen


def _open_questions(
    asked: Asked, device: torch.device, executions: Collection[Execution]
) -> Iterator[tuple[str, Any]]:
    """Fields of `Plan` and another value than the first choice, one race each.

    Compiling is a question of GPUs alone. On a CPU it takes 20 to 90 seconds, then gains 15 per
    cent with the smallest network and loses with larger ones (docs/adr/0020).
    """
    if asked.precision == "auto":
        if has_bfloat16(device):
            yield "precision", "bfloat16"
        elif device.type == "cuda":
            yield "precision", "float16"
    if asked.memory_format == "auto":
        yield "memory_format", "contiguous_format"
    if asked.execution == "auto" and device.type == "cuda":
        for execution in PREPARATION:
            if execution in executions:
                yield "execution", execution


def _rounds(
    race: Race, first: Plan, other: Plan, question: Mapping[str, Any], folder: Path
) -> Rounds | None:
    """As an earlier training on this machine has measured them, or now; see `Race.run`."""
    digest = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
    pinned = folder / f"{digest[:32]}.json"
    if not pinned.exists():
        rounds = race.run(first, other, preparation=PREPARATION.get(other.execution, 0.0))
        if rounds is None or rounds[0] == [float("inf")]:
            return rounds  # what fits into memory now may not the next time: it is not kept
        seconds = [[float(f"{each:.4g}") for each in way] for way in rounds]
        write_json(pinned, {**question, "seconds": {"first": seconds[0], "other": seconds[1]}})
        logger.info(
            "plan: a step by '%s' takes %.2f of the time of one by '%s' (%d rounds)",
            *(other, min(rounds[1]) / min(rounds[0]), first, len(rounds[0])),
        )
    measured = read_json(pinned)["seconds"]
    return measured["first"], measured["other"]


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
