"""Muon: the momentum of every hidden matrix is made orthogonal before it is subtracted.

Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024. As they advise, a
convolution's kernel counts as a matrix of (outputs, the rest), and all that is no hidden matrix
(norms, biases, embeddings, the first convolution, the head) is AdamW's. Updates are scaled to the
size of AdamW's (Liu et al., Muon is scalable for LLM training, 2025, arXiv:2502.16982), so that one
learning rate and one weight decay serve both.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.training.rules import AdamW, Group
from pipeline.vision.models.layers import first_layer, head_layers, matrix_layers

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that brings singular values near 1; the authors' are steep at 0, to be quick."""
ROUNDS = 5
UPDATE_RMS = 0.2
"""The usual root mean square of AdamW's updates, in learning rates (Liu et al. 2025)."""


@dataclass(frozen=True)
class Stack(Group):
    """Matrices of one shape, whose momentum is one tensor (n, rows, columns)."""


class Muon(AdamW):
    """Muon for the hidden matrices, AdamW for the rest; ``momentum`` is also AdamW's beta 1."""

    def _groups(self, model: nn.Module, weight_decay: float) -> list[Group]:
        hidden = hidden_matrices(model)
        by_shape = defaultdict[tuple[int, int], list[nn.Parameter]](list)
        for parameter in hidden:
            by_shape[len(parameter), parameter[0].numel()].append(parameter)
        stacks = [
            Stack(
                parameters,
                weight_decay,
                {"momentum": [parameters[0].new_zeros((len(parameters), *shape))]},
            )
            for shape, parameters in by_shape.items()
        ]
        taken = {id(parameter) for parameter in hidden}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
        return [*stacks, *self._decayed_and_not(rest, weight_decay)]

    def _update(self, group: Group, grad_scale: Tensor, found_inf: Tensor) -> None:
        if not isinstance(group, Stack):
            super()._update(group, grad_scale, found_inf)
            return
        (momentum,) = group.buffers["momentum"]
        made = 1.0 - found_inf  # 0 where this update is left out
        gradients = torch.stack([_matrix(parameter) for parameter in group.parameters])
        gradients = torch.where(found_inf > 0, 0.0, gradients / grad_scale)
        momentum.lerp_(gradients, (1.0 - self.momentum) * made)
        updates = orthogonal(torch.lerp(gradients, momentum, self.momentum))  # Nesterov's
        size = UPDATE_RMS * math.sqrt(max(updates.shape[1:]))
        updates = updates * (made * (-self.lr * size))
        parameters: list[Tensor] = list(group.parameters)
        torch._foreach_mul_(parameters, 1.0 - made * (self.lr * group.weight_decay))
        torch._foreach_add_(
            parameters,
            [update.reshape(p.shape) for update, p in zip(updates, group.parameters, strict=True)],
        )


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The trainable weights of matrices and convolutions, but for the first and for the head."""
    ends = {first_layer(model)} | head_layers(model)
    inner = {f"{name}.weight" for name in matrix_layers(model) if name not in ends}
    return [p for name, p in model.named_parameters() if name in inner and p.requires_grad]


def _matrix(parameter: nn.Parameter) -> Tensor:
    """The gradient as (rows, columns); zeros where the last batch gave none."""
    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return gradient.flatten(1)


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices of orthonormal rows or columns, roughly: singular values 0.7 to 1.2.

    A Newton-Schulz iteration, which needs products alone; on a GPU they are of bfloat16, as the
    authors have them.

    Args:
        matrices: (n, rows, columns) float32, treated as one batch.

    Returns:
        (n, rows, columns) float32; zeros where a matrix is all zeros.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    if x.device.type == "cuda":
        x = x.bfloat16()
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()
