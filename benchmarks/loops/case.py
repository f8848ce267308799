"""What a loop under test is told, and what the peers' loops share: the network and its recipe."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.vision import models

LABEL_SMOOTHING = 0.05
WEIGHT_DECAY = 0.02
LR = 0.001
FLIP, ERASE = 0.5, 0.1


@dataclass(frozen=True)
class Case:
    """One training: ``epochs`` over ``images`` images; its speed is that of the last.

    With ``test_folder`` its accuracy on the images there is told too. ``folder`` is where the peers
    read, ``idx_folder`` where ours does: without one it makes its images itself.
    """

    model: str
    side: int
    channels: int
    images: int
    batch_size: int
    epochs: int = 2
    seed: int = 0
    classes: int = 2
    folder: str = ""
    test_folder: str = ""
    idx_folder: str = ""
    workers: int = 0
    device: str = "cpu"
    amp: bool = False
    channels_last: bool = False

    @property
    def steps(self) -> int:
        return self.epochs * (self.images // self.batch_size)

    def command(self, loop: str) -> list[str]:
        return [str(Path(__file__).parent / f"{loop}.py"), json.dumps(asdict(self))]


def asked() -> Case:
    """The case that the command line holds."""
    return Case(**json.loads(sys.argv[1]))


def network(case: Case) -> nn.Module:
    torch.manual_seed(case.seed)
    built = models.build(
        case.model,
        channels=case.channels,
        num_classes=case.classes,
        image_size=case.side,
        architecture={},
        mean=(0.5,) * case.channels,
        std=(0.25,) * case.channels,
        where="benchmark",
    )
    layout = torch.channels_last if case.channels_last else torch.contiguous_format
    return built.to(case.device, memory_format=layout)  # type: ignore[call-overload, no-any-return]


def optimizer(model: nn.Module, case: Case) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW with its fused kernels, and the one-cycle schedule, as their documents show them."""
    adamw = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adamw, max_lr=LR, total_steps=case.steps)
    return adamw, schedule


def report(images: int, seconds: float, accuracy: float | None = None) -> None:
    """Print what was measured, the images per second last."""
    if accuracy is not None:
        sys.stdout.write(f"{accuracy}\n")
    sys.stdout.write(f"{images / seconds}\n")
