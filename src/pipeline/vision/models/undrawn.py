"""Networks without the time it takes to draw their weights, to see whether they can be built.

On PyTorch's meta device they would cost less still, but there PyTorch 2.15 computes nearly every
layer in Python, by functions that import its compiler first: 1.5 seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


@contextmanager
def undrawn() -> Iterator[None]:
    """What is built in this context has weights of 0, where they would have been drawn."""
    with _Undrawn():
        yield


class _Undrawn(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _DRAWS or getattr(func, "__module__", None) == nn.init.__name__:
            weights: torch.Tensor = args[0] if args else kwargs["tensor"]
            # What the memory held before may be numbers that processors are slow with.
            weights.detach().zero_()
            return weights
        if func is torch.linalg.qr:  # of what was drawn, for orthogonal weights
            return args[0], args[0]
        return func(*args, **(kwargs or {}))


_DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_)
