"""What a network gives in training beside its logits, and the loss it asks for.

In use every network gives logits. In training it may give a tuple, the logits first, and then

- further logits, of auxiliary heads: the loss is that of the logits plus ``auxiliary_weight`` (an
  attribute of the network) times that of each head (Szegedy et al. 2014, arXiv:1409.4842);
- whatever else its method ``training_loss`` makes the whole loss of, see `OwnLoss`.

The tuple is what the passes give, so it may be compiled or captured, and is of reduced precision
under autocast. The loss is made of it outside, in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from pipeline.vision.models.classifier import Classifier, Outputs


@dataclass(frozen=True)
class Supervision:
    """What a batch is to be learned from."""

    pixels: Tensor
    """(B, C, H, W) float32 in [0, 1]: the images that the network was given."""
    mass: Tensor
    """(B, K) float32: how much an image counts as one of each class, labels not smoothed."""
    label_smoothing: float
    cross_entropy: Callable[[Tensor], Tensor]
    """From logits (B, K) to the mean loss by which every network without a loss of its own is
    trained: scalar, with smoothing and all weights in it."""


@runtime_checkable
class OwnLoss(Protocol):
    """A network whose loss is not the cross-entropy of logits."""

    def training_loss(self, outputs: tuple[Tensor, ...], supervision: Supervision) -> Tensor:
        """The mean over the batch, scalar float32, from what the network gave in training.

        An image weighs the sum of its row of ``supervision.mass``. The network's own parameters may
        be used: they get their gradients here as in the passes.
        """
        ...


def logits_in(outputs: Outputs) -> Tensor:
    """The logits (B, K)."""
    return outputs if isinstance(outputs, Tensor) else outputs[0]


def auxiliaries_in(outputs: Outputs) -> tuple[Tensor, ...]:
    """All else, which may be nothing."""
    return () if isinstance(outputs, Tensor) else outputs[1:]


def loss_of(model: nn.Module, outputs: tuple[Tensor, ...], supervision: Supervision) -> Tensor:
    """The loss, scalar float32, of what ``model`` gave in training.

    Args:
        model: a `Classifier`, or the network itself.
        outputs: the logits alone, or with more.
    """
    net = model.net if isinstance(model, Classifier) else model
    if isinstance(net, OwnLoss):
        return net.training_loss(outputs, supervision)
    logits, *auxiliaries = outputs
    loss = supervision.cross_entropy(logits)
    if not auxiliaries:
        return loss
    weight = float(net.auxiliary_weight)  # type: ignore[arg-type]
    for head in auxiliaries:
        loss = loss + weight * supervision.cross_entropy(head)
    return loss
