"""Restricted Boltzmann machines, of which a stack is learned layer by layer.

Hinton, Training products of experts by minimizing contrastive divergence, 2002; Hinton, Osindero
and Teh, A fast learning algorithm for deep belief nets, 2006; Hinton, A practical guide to training
restricted Boltzmann machines, 2010.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.vision.models.classifier import Outputs

SPREAD = 0.01
"""Standard deviation of the first weights (Hinton 2010, section 8)."""


class RBM(nn.Module):
    """Visible units v (B, D), binary or Gaussian of unit variance, and binary hidden ones h (B, H).

    The energy is -b·v - c·h - h·Wv, with ½ |v - b|² in place of -b·v for Gaussian units.

    Attributes:
        weight: W, (H, D), as in `nn.Linear`.
        visible_bias: b, (D,).
        hidden_bias: c, (H,).
    """

    def __init__(self, visible: int, hidden: int, *, gaussian: bool) -> None:
        super().__init__()
        self.gaussian = gaussian
        self.weight = nn.Parameter(torch.randn(hidden, visible) * SPREAD)
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))

    def hidden(self, visible: Tensor) -> Tensor:
        """(B, D) -> (B, H): the probabilities of the hidden units."""
        return functional.linear(visible, self.weight, self.hidden_bias).sigmoid()

    def visible(self, hidden: Tensor) -> Tensor:
        """(B, H) -> (B, D): the means of the visible units."""
        means = functional.linear(hidden, self.weight.t(), self.visible_bias)
        return means if self.gaussian else means.sigmoid()

    def free_energy(self, visible: Tensor) -> Tensor:
        """(B, D) -> (B,): minus the logarithm of the unnormalised probability."""
        inputs = functional.linear(visible, self.weight, self.hidden_bias)
        if self.gaussian:
            own = 0.5 * (visible - self.visible_bias).square().sum(dim=1)
        else:
            own = -(visible @ self.visible_bias)
        return own - functional.softplus(inputs).sum(dim=1)

    @torch.no_grad()
    def sample(self, visible: Tensor, steps: int) -> Tensor:
        """(B, D) -> (B, D): the visible units after ``steps`` steps of Gibbs sampling.

        Random numbers come from torch's global generator.
        """
        for _ in range(steps):
            means = self.visible(torch.bernoulli(self.hidden(visible)))
            visible = means + torch.randn_like(means) if self.gaussian else torch.bernoulli(means)
        return visible


class StackedRBM(nn.Module):
    """The RBM that is learned on top of others, which stay as they are.

    In training it gives what the RBM sees, (B, D), and where ``steps`` steps of Gibbs sampling lead
    from there, (B, D); else the first alone. Nothing of that has a gradient: `training_loss` does.
    """

    def __init__(self, below: Sequence[RBM], rbm: RBM, *, steps: int) -> None:
        """
        Args:
            below: from the images on; what they give is their hidden units' probabilities.
            rbm: the one to be learned.
            steps: of Gibbs sampling: k in CD-k.
        """
        super().__init__()
        self._below = tuple(below)  # no modules of this one: no optimiser or checkpoint has them
        self.rbm, self.steps = rbm, steps

    @torch.no_grad()
    def forward(self, images: Tensor) -> Outputs:
        visible = images.flatten(1)
        for rbm in self._below:
            visible = rbm.hidden(visible)
        if not self.training:
            return visible
        return visible, self.rbm.sample(visible, self.steps)

    def errors(self, outputs: Outputs, pixels: Tensor) -> Tensor:
        """(B,): the mean squared error of the visible units' means, given the hidden ones'."""
        del pixels
        seen = outputs if isinstance(outputs, Tensor) else outputs[0]
        return (self.rbm.visible(self.rbm.hidden(seen)) - seen).square().mean(dim=1)

    def free_energies(self, outputs: Outputs) -> Tensor:
        """(B,), see `RBM.free_energy`."""
        return self.rbm.free_energy(outputs if isinstance(outputs, Tensor) else outputs[0])

    def training_loss(self, outputs: Outputs, pixels: Tensor) -> Tensor:
        """Scalar: the mean of `errors`, whose gradient is that of contrastive divergence.

        Contrastive divergence follows the gradient of no function. What is lowered is the free
        energy of the data and raised that of the samples, these taken as given; the value of that
        difference says little, so the reconstruction error stands in for it.
        """
        seen, sampled = outputs
        divergence = (self.rbm.free_energy(seen) - self.rbm.free_energy(sampled)).mean()
        return divergence - divergence.detach() + self.errors(outputs, pixels).mean().detach()
