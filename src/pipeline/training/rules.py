"""Update rules of optimisers and what they remember.

The update rules are PyTorch's fused kernels, called directly: `torch.optim` imports the compiler
when it makes its first optimiser, which takes longer than PyTorch's own import and serves nothing
here. A test compares every update with `torch.optim`'s, to the bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.training.scaling import LossScale


@dataclass(frozen=True)
class Group:
    """Parameters that are updated and decayed alike, and what the optimiser remembers of them."""

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
        loss_scale: what the gradients' loss was multiplied by; None: by nothing.
    """

    BUFFERS: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, model: nn.Module, *, lr: float, momentum: float, weight_decay: float
    ) -> None:
        self.lr, self.momentum = lr, momentum
        self.loss_scale: LossScale | None = None
        self.groups = self._groups(model, weight_decay)
        self.steps = torch.zeros((), device=next(model.parameters()).device)
        """Updates made, those that were left out not counted."""

    def _groups(self, model: nn.Module, weight_decay: float) -> list[Group]:
        """All parameters that are trained, each in one group."""
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return self._decayed_and_not(trained, weight_decay)

    def _decayed_and_not(self, parameters: list[nn.Parameter], weight_decay: float) -> list[Group]:
        return [
            Group(
                alike,
                decay,
                {name: [torch.zeros_like(p) for p in alike] for name in self.BUFFERS},
            )
            for alike, decay in (
                ([p for p in parameters if p.ndim > 1], weight_decay),
                ([p for p in parameters if p.ndim <= 1], 0.0),
            )
        ]

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
        buffers = {
            f"{number}.{name}.{i}": tensor
            for number, group in enumerate(self.groups)
            for name, tensors in group.buffers.items()
            for i, tensor in enumerate(tensors)
        }
        scale = {} if self.loss_scale is None else self.loss_scale.state()
        return {"steps": self.steps} | buffers | scale

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
