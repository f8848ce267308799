"""One operation of PyTorch as it was called: what the rules for fields and costs read from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from pipeline.inspection.field import Field, Window, nothing

Lookup = Callable[[Tensor], Field | None]
"""The field of an argument; None for a constant."""
WINDOWS = ("max_pool2d_with_indices", "avg_pool2d", "im2col")
"""Operations whose arguments describe a window over two dimensions."""


class Call:
    """One operation: its arguments by name, its results, and the fields that are known."""

    def __init__(
        self,
        function: OpOverload,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        result: object,
        lookup: Lookup,
    ) -> None:
        self.function = function
        self.name = function.overloadpacket.__name__
        arguments = function._schema.arguments  # noqa: SLF001 (an operator's names are there alone)
        self.values: dict[str, Any] = {
            argument.name: argument.default_value for argument in arguments
        }
        self.values |= {
            argument.name: value for argument, value in zip(arguments, args, strict=False)
        } | dict(kwargs)
        self.args, self.kwargs = args, kwargs
        self.results = list(tensors_in(result))
        self.lookup = lookup

    @property
    def inputs(self) -> list[Tensor]:
        """The tensors among the arguments."""
        return list(tensors_in([*self.args, *self.kwargs.values()]))

    @property
    def shape(self) -> torch.Size:
        """Of the first result."""
        return self.results[0].shape

    def field(self, name: str) -> Field:
        """Of an argument that is one tensor."""
        return self.lookup(self.values[name]) or nothing(self.values[name].shape)

    @property
    def fields(self) -> list[Field]:
        """Of all arguments that see anything of the image."""
        return [field for tensor in self.inputs if (field := self.lookup(tensor)) is not None]

    def window(self) -> Window | None:
        """That of a convolution or of a pooling over two dimensions."""
        if self.name == "convolution":
            if self.values["transposed"] or len(self.shape) != 4:
                return None
            kernel = self.values["weight"].shape[2:]
        elif self.name in WINDOWS:
            kernel = self.values["kernel_size"]
        else:
            return None
        stride = self.values.get("stride") or kernel
        dilation = self.values.get("dilation") or (1, 1)
        pairs = [_pair(value) for value in (kernel, stride, self.values["padding"], dilation)]
        return Window(*pairs)


def tensors_in(value: object) -> Iterable[Tensor]:
    """All tensors in nested lists and tuples, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from tensors_in(inner)


def _pair(value: Sequence[int] | int) -> tuple[int, int]:
    both = tuple(value) if isinstance(value, Sequence | torch.Size) else (value,)
    return (both[0], both[-1])
