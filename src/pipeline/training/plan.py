"""How the steps of a training are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["float32", "bfloat16", "float16"]
MemoryFormat = Literal["channels_last", "contiguous_format"]
Execution = Literal["eager", "compiled", "cuda_graphs"]


@dataclass(frozen=True)
class Plan:
    """What a training's bits depend on beside settings, data, code and seed.

    It is kept in the checkpoint and in ``model.json``. What is no training, a validation or a
    prediction, uses its precision and its memory format alone.
    """

    precision: Precision
    threads: int
    """Of the CPU. Sums are split among them, so that their number shapes the last bits."""
    memory_format: MemoryFormat = "channels_last"
    """The name that PyTorch has for it."""
    execution: Execution = "eager"
    """How the network's forward and backward passes are made, see `training.execution`."""

    def __str__(self) -> str:
        return f"{self.precision}, {self.memory_format}, {self.execution}"
