"""The epochs of a training: which one's weights are kept, and whether more of them are worth it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to. The losses are the objective's, weights and smoothing included.

    A training without labels has no accuracies: they are None.
    """

    epoch: int
    """From 1."""
    lr: float
    """Of its last step."""
    train_loss: float
    train_accuracy: float | None
    """Of the augmented images, each as the network was when it saw it."""
    val_loss: float
    val_accuracy: float | None = None
    val_balanced_accuracy: float | None = None
    free_energy_gap: float | None = None
    """Of a Boltzmann machine: mean free energy of the val split minus that of as many training
    images. It grows where the machine overfits (Hinton 2010, section 6)."""

    def row(self) -> dict[str, float]:
        """What was measured, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        if self.val_balanced_accuracy is None:
            return f"epoch {self.epoch}: validation loss {self.val_loss:.4g}"
        return f"epoch {self.epoch}: validation {100 * self.val_balanced_accuracy:.1f} %"


def rows(history: Sequence[Epoch]) -> list[dict[str, float]]:
    """For ``history.csv``: six digits are more than a curve shows."""
    return [
        {name: float(f"{value:.6g}") if name != "epoch" else value for name, value in row.items()}
        for row in (epoch.row() for epoch in history)
    ]


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The epoch whose weights are kept: of the highest balanced accuracy on the val split.

    Of equals, as all are without labels, the one of the lower loss, then the later one.
    """
    return max(history, key=lambda e: (*_quality(e), e.epoch))


def finished(history: Sequence[Epoch], *, epochs: int, patience: int | None) -> bool:
    """Whether a training ends with its last epoch in ``history``.

    Early stopping (Prechelt 1998): it does where ``patience`` epochs brought none that is better
    than the best before them. It follows from the history alone, so a resumed training agrees.
    """
    if len(history) == epochs:
        return True
    if patience is None or not history:
        return False
    best = max(history, key=_quality)  # the first of equals
    return history[-1].epoch - best.epoch >= patience


def _quality(epoch: Epoch) -> tuple[float, float]:
    return epoch.val_balanced_accuracy or 0.0, -epoch.val_loss
