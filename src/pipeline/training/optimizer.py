"""Optimisers, and learning rates as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Groups = list[dict[str, Any]]


def build_optimizer(
    model: nn.Module, *, name: str, lr: float, momentum: float, weight_decay: float
) -> Optimizer:
    """The optimiser called ``name`` (a key of `OPTIMIZERS`) over the model's parameters.

    Norms and biases, all that has one dimension, are not decayed (He et al. 2019, "Bag of
    tricks"). The kernels are fused, on the CPU as on a GPU: `guarded_step` builds on that.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return OPTIMIZERS[name]([group for group in groups if group["params"]], lr, momentum)


def _sgd(groups: Groups, lr: float, momentum: float) -> Optimizer:
    """SGD with Nesterov's momentum (Sutskever et al. 2013)."""
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=True)
    if momentum > 0:
        # The kernel leaves them uninitialised where `guarded_step` leaves the first update out.
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _adamw(groups: Groups, lr: float, momentum: float) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019); ``momentum`` is its beta 1."""
    return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999), fused=True)


OPTIMIZERS: dict[str, Callable[[Groups, float, float], Optimizer]] = {"sgd": _sgd, "adamw": _adamw}


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
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    norm = nn.utils.get_total_norm(gradients)
    finite = torch.isfinite(loss.detach()) & torch.isfinite(norm)
    scale = torch.ones_like(norm) if max_norm is None else (norm / max_norm).clamp(min=1.0)
    optimizer.grad_scale, optimizer.found_inf = scale, (~finite).float()  # type: ignore[attr-defined]
    optimizer.step()
    return torch.where(finite, loss.detach(), torch.nan)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


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
