"""Optimisers, and learning rates as pure functions of the step.

The update rules are PyTorch's fused kernels, called directly: `torch.optim` imports the compiler
when it makes its first optimiser, which takes longer than PyTorch's own import and serves nothing
here. A test compares every update with `torch.optim`'s, to the bit.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    """Parameters that are decayed alike, and what the optimiser remembers of each."""

    parameters: list[nn.Parameter]
    weight_decay: float
    buffers: dict[str, list[Tensor]]
    """Each list holds a tensor for each parameter, of its shape and memory format."""

    def with_gradients(self) -> tuple[list[Tensor], list[Tensor], dict[str, list[Tensor]]]:
        """The parameters that have a gradient, these gradients, and what belongs to them."""
        used = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        buffers = {name: [tensors[i] for i in used] for name, tensors in self.buffers.items()}
        parameters: list[Tensor] = [self.parameters[i] for i in used]
        return parameters, [p.grad for p in parameters if p.grad is not None], buffers


class Optimizer(ABC):
    """An update rule over the parameters of a model. All state is on their device.

    Attributes:
        lr: the learning rate of the next step.
    """

    BUFFERS: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, model: nn.Module, *, lr: float, momentum: float, weight_decay: float
    ) -> None:
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.lr, self.momentum = lr, momentum
        self.groups = [
            Group(
                parameters,
                decay,
                {name: [torch.zeros_like(p) for p in parameters] for name in self.BUFFERS},
            )
            for parameters, decay in (
                ([p for p in trainable if p.ndim > 1], weight_decay),
                ([p for p in trainable if p.ndim <= 1], 0.0),
            )
        ]
        self.steps = torch.zeros((), device=trainable[0].device)
        """Updates made, those that were left out not counted."""

    def zero_grad(self) -> None:
        for group in self.groups:
            for parameter in group.parameters:
                parameter.grad = None

    @torch.no_grad()
    def step(self, *, grad_scale: Tensor, found_inf: Tensor) -> None:
        """Update by the gradients over ``grad_scale``, unless ``found_inf`` is 1 (both scalars)."""
        self.steps += 1 - found_inf
        for group in self.groups:
            if group.parameters:
                self._update(group, grad_scale, found_inf)

    @abstractmethod
    def _update(self, group: Group, grad_scale: Tensor, found_inf: Tensor) -> None: ...

    def state(self) -> dict[str, Tensor]:
        """All that the next steps depend on beyond the weights; not copied."""
        return {"steps": self.steps} | {
            f"{number}.{name}.{i}": tensor
            for number, group in enumerate(self.groups)
            for name, tensors in group.buffers.items()
            for i, tensor in enumerate(tensors)
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave.

        Raises:
            KeyError: ``state`` is of another rule or model.
        """
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


class SGD(Optimizer):
    """SGD with Nesterov's momentum (Sutskever et al. 2013)."""

    BUFFERS = ("momentum",)

    def _update(self, group: Group, grad_scale: Tensor, found_inf: Tensor) -> None:
        parameters, gradients, buffers = group.with_gradients()
        torch._fused_sgd_(
            parameters,
            gradients,
            buffers["momentum"] if self.momentum > 0 else [],
            weight_decay=group.weight_decay,
            momentum=self.momentum,
            lr=self.lr,
            dampening=0.0,
            nesterov=self.momentum > 0,
            maximize=False,
            is_first_step=False,  # the buffers start as zeros, which gives the same first step
            grad_scale=grad_scale,
            found_inf=found_inf,
        )


class AdamW(Optimizer):
    """AdamW (Loshchilov & Hutter 2019); ``momentum`` is its beta 1."""

    BUFFERS = ("mean", "square")

    def _update(self, group: Group, grad_scale: Tensor, found_inf: Tensor) -> None:
        parameters, gradients, buffers = group.with_gradients()
        torch._fused_adamw_(
            parameters,
            gradients,
            buffers["mean"],
            buffers["square"],
            [],
            [self.steps] * len(parameters),
            lr=self.lr,
            beta1=self.momentum,
            beta2=0.999,
            weight_decay=group.weight_decay,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
            grad_scale=grad_scale,
            found_inf=found_inf,
        )


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adamw": AdamW}


def build_optimizer(
    model: nn.Module, *, name: str, lr: float, momentum: float, weight_decay: float
) -> Optimizer:
    """The optimiser called ``name`` (a key of `OPTIMIZERS`) over the model's parameters.

    Norms and biases, all that has one dimension, are not decayed (He et al. 2019, "Bag of
    tricks").
    """
    return OPTIMIZERS[name](model, lr=lr, momentum=momentum, weight_decay=weight_decay)


def guarded_step(optimizer: Optimizer, loss: Tensor, *, max_norm: float | None) -> Tensor:
    """Update by the gradients of ``loss``, unless something is not finite; the host never waits.

    The fused kernels divide the gradients by ``grad_scale`` and leave everything as it was where
    ``found_inf`` is 1: what mixed precision uses against overflow clips and guards here, on the
    device and in the pass over the weights that has to be made anyway.

    Args:
        loss: scalar; its gradients are in the parameters.
        max_norm: the largest L2 norm of all gradients together; None: no limit.

    Returns:
        The loss, on the device; NaN where the update was left out.
    """
    gradients = [
        parameter.grad
        for group in optimizer.groups
        for parameter in group.parameters
        if parameter.grad is not None
    ]
    norm = nn.utils.get_total_norm(gradients)
    finite = torch.isfinite(loss.detach()) & torch.isfinite(norm)
    scale = torch.ones_like(norm) if max_norm is None else (norm / max_norm).clamp(min=1.0)
    optimizer.step(grad_scale=scale, found_inf=(~finite).float())
    return torch.where(finite, loss.detach(), torch.nan)


def one_cycle(step: int, steps: int, warmup: float) -> float:
    """From 1/25 up to 1 and down to 1/10,000, both along a cosine (Smith & Topin 2018)."""
    rising = warmup * steps
    if step < rising:
        return _between(1 / 25, 1.0, step / rising)
    return _between(1.0, 1e-4, (step - rising) / max(steps - 1 - rising, 1.0))


def cosine(step: int, steps: int, warmup: float) -> float:
    """Up in a straight line, then down along a cosine to 0 (Loshchilov & Hutter 2017)."""
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return _between(1.0, 0.0, (step - rising) / max(steps - rising, 1.0))


def constant(step: int, steps: int, warmup: float) -> float:
    """Up in a straight line, then level (Goyal et al. 2017)."""
    return min(1.0, (step + 1) / (warmup * steps + 1))


def _between(start: float, end: float, position: float) -> float:
    """Half a cosine wave from ``start`` at position 0 to ``end`` at position 1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(position, 1.0))) / 2


SCHEDULES: dict[str, Callable[[int, int, float], float]] = {
    "one_cycle": one_cycle,
    "cosine": cosine,
    "constant": constant,
}
"""name -> f(step, steps, warmup), the share of the peak learning rate at ``step`` of ``steps``;
``warmup`` is the share of the steps in which it rises."""
