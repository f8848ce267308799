"""Training without labels, by the engine that trains classifiers.

Order, augmentation, optimiser, schedule, plan, checkpoints and journal are the same, and a resumed
training repeats an undisturbed one to the bit here too. What differs is the loss, and that an epoch
has no accuracy: the one whose weights are kept has the smallest error on the val split.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.params import VariantParams
from pipeline.training.environment import derived_seed
from pipeline.training.execution import outputs_of
from pipeline.training.history import Epoch
from pipeline.training.loop import VALIDATION_BATCH, Trainer
from pipeline.training.objective import Labels
from pipeline.training.splits import Split
from pipeline.training.task import Task
from pipeline.vision.models import Classifier
from pipeline.vision.models.classifier import Outputs
from pipeline.vision.models.rbm import StackedRBM


class Unlabelled(Protocol):
    """A network that learns from images alone, inside a `Classifier`."""

    def training_loss(self, outputs: Outputs, pixels: Tensor) -> Tensor:
        """The mean over the batch, scalar, of what the network gave in training.

        ``pixels`` (B, C, H, W) float32 in [0, 1] are the images that it was given.
        """
        ...

    def errors(self, outputs: Outputs, pixels: Tensor) -> Tensor:
        """(B,) float32: how badly each image is told from what the network makes of it."""
        ...


class UnlabelledTrainer(Trainer):
    """A `Trainer` of an `Unlabelled` network. Its losses are means of that network's errors."""

    def _judge(self, outputs: Outputs, pixels: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
        loss = _network(self.model).training_loss(outputs, pixels)
        return loss, torch.zeros_like(labels.targets, dtype=torch.bool)

    def summary(self, epoch: int, train_loss: float, train_accuracy: float) -> Epoch:
        del train_accuracy
        last = self.lr((epoch + 1) * self.steps_per_epoch - 1)
        network = _network(self.result)
        error = self._mean(self.val, len(self.val), network.errors)
        if not math.isfinite(error):
            raise PipelineError(
                f"the error of the validation images is {error}; lower the learning rate 'lr'"
            )
        gap = None
        if isinstance(network, StackedRBM):
            count = min(len(self.train), len(self.val))
            own, other = (
                self._mean(split, count, lambda outputs, _: network.free_energies(outputs))
                for split in (self.train, self.val)
            )
            gap = other - own
        return Epoch(epoch + 1, last, train_loss, None, error, free_energy_gap=gap)

    @torch.inference_mode()
    def _mean(self, split: Split, count: int, of: Callable[[Outputs, Tensor], Tensor]) -> float:
        """The mean of what ``of`` gives, (B,), over the first ``count`` images, not augmented."""
        model = self.result.eval()
        own = self.ranks.part(torch.arange(count, device=split.images.index_device))
        values = [torch.zeros(0, device=self.device)]
        for positions in torch.split(own, VALIDATION_BATCH) if len(own) else ():
            pixels = split.images.take(positions)
            values.append(of(outputs_of(model, self.plan, pixels), pixels))
        return self.ranks.gather(torch.cat(values), count).double().mean().item()


def _network(model: torch.nn.Module) -> Unlabelled:
    return cast(Unlabelled, model.net)


@dataclass(frozen=True, kw_only=True)
class UnlabelledTask(Task):
    """A training without labels, of weights for a variant's network."""

    trainer: ClassVar[type[Trainer]] = UnlabelledTrainer

    phase: str
    """What is trained: ``autoencoder``, for example. First weights follow from it and the seed."""
    section: str
    make: Callable[[], Classifier]
    """Makes the network, its weights from torch's global generator."""

    @property
    def where(self) -> str:
        return self.section

    def network(self) -> Classifier:
        torch.manual_seed(derived_seed("weights", self.settings.seed, self.phase))
        return self.make()


Learn = Callable[[UnlabelledTask], Classifier]
"""Trains a task, or takes over what was trained before; gives its network."""


def without_labels(settings: VariantParams, **changes: Any) -> VariantParams:
    """``settings`` with ``changes``, and without all that labels or a later training are for."""
    unused: dict[str, Any] = {
        "sampling": "shuffle",
        "class_weights": "none",
        "use_sample_weights": False,
        "soft_labels": None,
        "label_smoothing": 0.0,
        "early_stopping": None,
        "test_time_augmentation": "none",
        "progressive_resizing": None,
        "freeze": (),
    }
    return settings.model_copy(update=unused | changes)
