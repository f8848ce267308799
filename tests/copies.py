"""Copies from a GPU to the host: each makes the host wait, or read what is not there yet."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class CopiesToHost(TorchDispatchMode):
    """Notes of each, also of a pretended GPU's, whether the host waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is torch.ops.aten._to_copy.default and (
            (args[0].device.type, result.device.type) == ("cuda", "cpu")
        ):
            self.awaited.append(not kwargs.get("non_blocking"))
        return result
