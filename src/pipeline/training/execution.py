"""How the passes of the network are made: as they stand, compiled, or as CUDA graphs.

Compiled code and graphs are made for batches of one shape. Others, such as an epoch's last batch
and images that still grow, take the way of the plain network, whose weights they share.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.console import logger
from pipeline.errors import PipelineError
from pipeline.training.environment import release_memory
from pipeline.training.plan import Execution, Plan
from pipeline.vision.models.classifier import Outputs
from pipeline.vision.models.outputs import logits_in
from pipeline.vision.precision import autocast

EXECUTIONS: tuple[Execution, ...] = ("eager", "compiled", "cuda_graphs")

Passes = Callable[[Tensor], Outputs]
"""Images (B, C, H, W) to logits (B, K), perhaps beside more (`vision.models.outputs`), in training
mode and by the plan's precision."""

TOLERANCE = 0.01
"""Relative, of gradients; beside what the precision itself costs them."""

_RANDOM = ("drop", "stochastic")
"""Parts of the names of layers that draw random numbers, each way of execution its own."""


def obstacle(
    execution: Execution, device: torch.device, *, processes: int, accumulation: int
) -> str | None:
    """Why ``execution`` cannot be; None where it can."""
    if execution == "compiled" and not _has_compiler():
        return "needs a C++ compiler, and this machine has none (PyTorch looks for CXX, g++, clang)"
    if execution == "cuda_graphs":
        if device.type != "cuda":
            return f"needs a GPU, and the training runs on {device}"
        if processes > 1:
            return f"needs one process, and {processes} train together"
        if accumulation > 1:  # a graph's gradients lie where the next batch's will
            return f"needs gradient_accumulation: 1, not {accumulation}"
    return None


def _has_compiler() -> bool:
    names = ("g++", "clang++", "c++")
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), *names))


def training_passes(
    model: nn.Module, plan: Plan, *, images: int, image_size: int, chosen: bool = True
) -> Passes:
    """The passes of ``model`` by ``plan``; made anew, where they have to be, at the first batch.

    Args:
        images: in a full batch.
        image_size: of a full batch.
        chosen: whether the settings ask for this execution. If so, a batch raises `PipelineError`
            where it is not possible; otherwise passes are plain then.
    """
    if plan.execution == "eager":
        return partial(outputs_of, model, plan)
    return _OneShape(model, plan, (images, image_size), chosen)


def logits_of(model: nn.Module, plan: Plan, pixels: Tensor) -> Tensor:
    """By the plan's precision and memory format alone: what validation does, too."""
    return logits_in(outputs_of(model, plan, pixels))


def outputs_of(model: nn.Module, plan: Plan, pixels: Tensor) -> Outputs:
    """As `logits_of`, all of it."""
    with autocast(pixels.device, plan.precision):
        outputs: Outputs = model(_stored(pixels, plan))
    return outputs


def _stored(pixels: Tensor, plan: Plan) -> Tensor:
    return pixels.contiguous(memory_format=getattr(torch, plan.memory_format))


class _OneShape:
    """Full batches by passes made for them, others by plain ones."""

    def __init__(self, model: nn.Module, plan: Plan, shape: tuple[int, int], chosen: bool) -> None:
        self._model, self._plan, self._shape, self._chosen = model, plan, shape, chosen
        self._made: Passes | None = None

    def __call__(self, pixels: Tensor) -> Outputs:
        if (pixels.shape[0], pixels.shape[3]) != self._shape:
            return outputs_of(self._model, self._plan, pixels)
        pixels = _stored(pixels, self._plan)
        graphs = self._plan.execution == "cuda_graphs"
        with autocast(pixels.device, self._plan.precision, cache=not graphs):
            if self._made is not None:
                return self._made(pixels)
            try:
                made = _captured(self._model, pixels) if graphs else _compiled(self._model)
                outputs = made(pixels)  # the first batch is what a compiler is started by
                self._made = made
                return outputs
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                reason = str(error).strip().partition("\n")[0]
                problem = (
                    f"train.execution: {self._plan.execution} is not possible for this network"
                    f" ({type(error).__name__}: {reason})"
                )
                if self._chosen:
                    raise PipelineError(f"{problem}; set it to auto or eager") from error
            logger.warning("%s; its passes are plain ones", problem)
            self._made = self._model
            return self._made(pixels)


def _compiled(model: nn.Module) -> Passes:
    import torch._inductor.config as inductor

    # Where it may, the compiler chooses kernels by timing them: other bits from run to run.
    options: dict[str, Any] = {"deterministic": True} if hasattr(inductor, "deterministic") else {}
    passes: Passes = torch.compile(model, dynamic=False, options=options)
    return passes


class _Wrapper(nn.Module):
    """Whose ``forward`` is exchanged for the graph's, and not the network's own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Outputs:
        outputs: Outputs = self.model(pixels)
        return outputs


def _captured(model: nn.Module, pixels: Tensor) -> Passes:
    """CUDA graphs of both passes; the steps made on the way leave no trace.

    The graphs replay on the weights where they lie: all that changes these does it in place.
    """
    release_memory(pixels.device)  # a graph's memory is its own: it can use none that is only kept
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with torch.random.fork_rng([pixels.device]):
            graphed: Any = torch.cuda.make_graphed_callables(
                _Wrapper(model),
                (pixels.clone(memory_format=torch.preserve_format),),
                allow_unused_input=True,
            )
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
    passes: Passes = graphed
    return passes


def disagreement(
    model: nn.Module,
    plan: Plan,
    pixels: Tensor,
    loss: Callable[[Any], Tensor],
    *,
    make: Callable[..., Passes] = training_passes,
) -> str | None:
    """How the passes by ``plan`` differ from plain ones by more than rounding; None: they do not.

    Two batches go through copies of ``model``; compared are the second one's loss and gradients,
    and the buffers after both. Rounding is what the plan's precision does to the plain passes.

    Args:
        model: on the device of ``pixels``; it stays as it is.
        pixels: (B, C, H, W), a full batch.
        loss: of what its passes give; it should depend on all of that.
    """
    batches = (pixels.flip(0), pixels)
    eager = Plan(plan.precision, plan.threads, plan.memory_format)
    exact = _results(model, Plan("float32", plan.threads, plan.memory_format), batches, loss, make)
    plain, other = (_results(model, by, batches, loss, make) for by in (eager, plan))
    for what, reference in exact.items():
        size = reference.norm().clamp(min=1e-12)
        rounding, error = ((each[what] - reference).norm() / size for each in (plain, other))
        if not error <= 2.0 * rounding + TOLERANCE:
            return f"its {what} differ by {error:.2g}, with plain passes by {rounding:.2g}"
    return None


def _results(
    model: nn.Module,
    plan: Plan,
    batches: tuple[Tensor, ...],
    loss: Callable[[Any], Tensor],
    make: Callable[..., Passes],
) -> dict[str, Tensor]:
    """What there is to compare after ``batches``, each as one float64 vector."""
    model = copy.deepcopy(model).train()
    for name, module in model.named_modules():
        if any(part in f"{name} {type(module).__name__}".lower() for part in _RANDOM):
            module.eval()
    passes = make(model, plan, images=len(batches[0]), image_size=batches[0].shape[3])
    value = torch.zeros(())
    for pixels in batches:
        model.zero_grad(set_to_none=True)
        value = loss(passes(pixels))
        torch.autograd.backward(value)
    named = {
        "loss": [value.detach()],
        "gradients": [p.grad for p in model.parameters() if p.grad is not None],
        "buffers": [buffer for buffer in model.buffers() if buffer.is_floating_point()],
    }
    return {
        what: torch.cat([tensor.flatten().double() for tensor in tensors])
        for what, tensors in named.items()
        if tensors
    }
