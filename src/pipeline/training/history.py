"""The epochs of a training: which one's weights are kept, and whether more of them are worth it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to. The losses are the objective's, weights and smoothing included."""

    epoch: int
    """From 1."""
    lr: float
    """Of its last step."""
    train_loss: float
    train_accuracy: float
    """Of the augmented images, each as the network was when it saw it."""
    val_loss: float
    val_accuracy: float
    val_balanced_accuracy: float


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The epoch whose weights are kept: of the highest balanced accuracy on the val split.

    Of equals the one of the lower loss, then the later one.
    """
    return max(history, key=lambda e: (e.val_balanced_accuracy, -e.val_loss, e.epoch))


def finished(history: Sequence[Epoch], *, epochs: int, patience: int | None) -> bool:
    """Whether a training ends with its last epoch in ``history``.

    Early stopping (Prechelt 1998): it does where ``patience`` epochs brought none that is better
    than the best before them. It follows from the history alone, so a resumed training agrees.
    """
    if len(history) == epochs:
        return True
    if patience is None or not history:
        return False
    best = max(history, key=lambda e: (e.val_balanced_accuracy, -e.val_loss))  # the first of equals
    return history[-1].epoch - best.epoch >= patience
