"""What a network does to one image, operation by operation, seen while it runs on the meta device.

Nothing is computed there but shapes, so that a network of any size takes a fraction of a second.
Which results an operation starts from follows from the tensors it is given, not from the order of
the modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from pipeline.inspection.call import Call
from pipeline.inspection.field import Reach, Window, of_image, unknown
from pipeline.inspection.rules import CONSTANTS, PRODUCTS, fields_of_results


@dataclass(frozen=True)
class Operation:
    """One operation on something that comes from the image."""

    name: str
    """PyTorch's, such as ``convolution`` or ``relu_``."""
    module: str
    """The module that ran it, by its path in the network."""
    kind: str
    """That module's class."""
    run: int
    """Equal for the operations of one run of one module that holds no others; -1 otherwise."""
    inputs: tuple[int, ...]
    """The operations whose results it takes; -1 is the image."""
    parameters: frozenset[str]
    """Names of the parameters that it takes, directly or by what was made of them."""
    source: tuple[int, ...]
    """The shape of the first argument that comes from the image."""
    shape: tuple[int, ...]
    reach: Reach
    multiply_adds: int
    memory: int
    """Bytes of its result; 0 for a view and for what is written into an argument."""
    window: Window | None = None
    groups: int = 1


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Without the fused kernel of a whole attention layer, which would hide what is in it."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def trace(net: nn.Module, *, channels: int, image_size: int) -> list[Operation]:
    """The operations of ``net`` on one image, in the order they run in.

    Args:
        net: on the meta device; it is left in evaluation mode.
        channels: of the image.
        image_size: its side in pixels.
    """
    net.eval()
    image = torch.empty(1, channels, image_size, image_size, device="meta")
    recorder = _Recorder(net, image)
    hooks = [hook for name, module in net.named_modules() for hook in recorder.watch(name, module)]
    try:
        with torch.no_grad(), _plain_attention(), recorder:
            net(image)
    finally:
        for hook in hooks:
            hook.remove()
    return recorder.operations


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's is not typed
    def __init__(self, net: nn.Module, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self._modules: list[tuple[str, str, int]] = [("", type(net).__name__, -1)]
        self._runs = 0
        # By the tensor itself: two that are equal are still two.
        self._fields: Any = WeakIdKeyDictionary()
        self._from: Any = WeakIdKeyDictionary()
        self._parameters: Any = WeakIdKeyDictionary()
        self._fields[image], self._from[image] = of_image(image.shape), -1
        for name, parameter in net.named_parameters():
            self._parameters[parameter] = frozenset([name])

    def watch(self, name: str, module: nn.Module) -> Sequence[Any]:
        """Note while ``module`` runs that it does."""
        leaf = next(module.children(), None) is None

        def enter(*_: object) -> None:
            self._runs += 1
            self._modules.append((name, type(module).__name__, self._runs if leaf else -1))

        def leave(*_: object) -> None:
            self._modules.pop()

        return (
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave, always_call=True),
        )

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        call = Call(func, args, kwargs or {}, result, self._fields.get)
        sources = [self._parameters.get(tensor, frozenset()) for tensor in call.inputs]
        parameters = frozenset[str]().union(*sources)
        if call.fields and call.results and call.name not in CONSTANTS:
            self._record(call, parameters)
        else:
            for tensor in call.results:  # made of parameters alone, such as their transposes
                self._parameters[tensor] = parameters
        return result

    def _record(self, call: Call, parameters: frozenset[str]) -> None:
        fields = fields_of_results(call)
        inputs = tuple(self._from[tensor] for tensor in call.inputs if tensor in self._from)
        in_place = any(call.results[0] is tensor for tensor in call.inputs)
        whole = call.results[0]._base  # noqa: SLF001 (what a view is one of; documented by PyTorch)
        if in_place and whole is not None:
            # Written into a part of another tensor, whose field has no longer a rule.
            self._fields[whole] = unknown(whole.shape)
        for tensor, field in zip(call.results, fields, strict=True):
            self._fields[tensor], self._from[tensor] = field, len(self.operations)
        shares = in_place or whole is not None
        name, kind, run = self._modules[-1]
        first = call.results[0]
        self.operations.append(
            Operation(
                name=call.name,
                module=name,
                kind=kind,
                run=run,
                inputs=inputs,
                parameters=parameters,
                source=next(tuple(x.shape) for x in call.inputs if x in self._from),
                shape=tuple(first.shape),
                reach=fields[0].reach,
                multiply_adds=multiply_adds(call),
                memory=0 if shares else first.numel() * first.element_size(),
                window=call.window(),
                groups=call.values.get("groups", 1) if call.name == "convolution" else 1,
            )
        )


def multiply_adds(call: Call) -> int:
    """Multiplications with an addition, for one image: of convolutions and matrix products.

    What is done once for each element (norms, activations, sums, poolings) is not among them, as
    in the tables of papers.
    """
    if call.name == "convolution":
        weight, given = call.values["weight"], call.values["input"]
        positions = given.numel() // given.shape[1] * weight.shape[0]
        if not call.values["transposed"]:
            positions = call.results[0].numel()
        return int(positions * weight[0].numel())
    if call.name in PRODUCTS:
        return int(call.results[0].numel() * call.inputs[-2].shape[-1])
    return 0
