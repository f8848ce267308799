"""Optimisers by name, and the guard of every step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.training.muon import Muon
from pipeline.training.rules import SGD, AdamW, Optimizer
from pipeline.training.scaling import LossScale

OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adamw": AdamW, "muon": Muon}


def build_optimizer(
    model: nn.Module, *, name: str, lr: float, momentum: float, weight_decay: float
) -> Optimizer:
    """The optimiser called ``name`` (a key of `OPTIMIZERS`) over the parameters to be trained.

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
        loss: scalar; its gradients are in the parameters, times the optimiser's ``loss_scale``.
        max_norm: the largest L2 norm of all gradients together; None: no limit.

    Returns:
        The loss, on the device; NaN where the update was left out. With a loss scale, gradients
        that are not finite are an overflow: the update is left out and the scale halved, and only
        a loss that is not finite itself, or a scale below 1, gives NaN.
    """
    gradients = [
        parameter.grad
        for group in optimizer.groups
        for parameter in group.parameters
        if parameter.grad is not None
    ]
    norm, loss = nn.utils.get_total_norm(gradients), loss.detach()
    if optimizer.loss_scale is not None:
        return _scaled_step(optimizer, optimizer.loss_scale, loss, norm, max_norm)
    both = loss + norm
    nothing = both - both  # 0, or NaN where one of them is not finite
    scale = torch.ones_like(norm) if max_norm is None else (norm / max_norm).clamp(min=1.0)
    optimizer.step(grad_scale=scale, found_inf=(nothing != 0).float())
    return loss + nothing


def _scaled_step(
    optimizer: Optimizer, by: LossScale, loss: Tensor, norm: Tensor, max_norm: float | None
) -> Tensor:
    """As `guarded_step`; ``norm`` is that of the gradients times the scale."""
    broken = loss - loss  # 0, or NaN where it is not finite
    found_inf = (broken + (norm - norm) != 0).float()
    scale = by.scale.clone()
    if max_norm is not None:
        scale *= (norm / by.scale / max_norm).clamp(min=1.0)
    optimizer.step(grad_scale=scale, found_inf=found_inf)
    by.adapt(found_inf)
    return torch.where(by.scale < 1.0, torch.nan, loss + broken)
