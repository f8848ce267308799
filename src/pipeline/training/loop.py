"""The training loop: one epoch at a time, and the host never waits for the device within a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.params import TrainParams
from pipeline.training.autotune import Plan
from pipeline.training.environment import derived_seed
from pipeline.training.objective import cross_entropy
from pipeline.training.optimizer import SCHEDULES, build_optimizer, guarded_step
from pipeline.vision.augmentation import Policy
from pipeline.vision.batches import Images, epoch_order
from pipeline.vision.metrics import Sample, accuracy, balanced_accuracy

READ_BACK = 50
"""Steps after which the losses are looked at; until then they stay on the device."""

VALIDATION_BATCH = 256


@dataclass(frozen=True)
class Split:
    """The images of one split and their weights in the objective, (n,) float32, 1 on average."""

    images: Images
    weights: Tensor
    file_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)


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


class Trainer:
    """A network with its optimiser and data; `train_epoch` and `validate` take turns.

    What an epoch does follows from the state of network and optimiser, the seed and the epoch's
    number alone, so that a resumed training repeats an undisturbed one to the bit.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainParams,
        plan: Plan,
        policy: Policy,
        *,
        train: Split,
        val: Split,
    ) -> None:
        """``model`` maps float32 (B, C, H, W) in [0, 1] to logits (B, K) and changes in place."""
        self.device = train.images.device
        self.model = model.to(self.device).to(memory_format=getattr(torch, plan.memory_format))
        self.settings, self.plan, self.policy = settings, plan, policy
        self.train, self.val = train, val
        self.optimizer = build_optimizer(
            self.model,
            name=settings.optimizer,
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )

    @property
    def steps_per_epoch(self) -> int:
        full, rest = divmod(len(self.train), self.settings.batch_size)
        return full + (rest > 1)

    def lr(self, step: int) -> float:
        """The learning rate at ``step``, counted over all epochs."""
        steps = self.steps_per_epoch * self.settings.epochs
        share = SCHEDULES[self.settings.schedule](step, steps, self.settings.warmup)
        return self.settings.lr * share

    def train_epoch(
        self, epoch: int, *, advance: Callable[[int], object] = lambda _: None
    ) -> tuple[float, float]:
        """Train the epoch that is number ``epoch``, from 0; returns its loss and accuracy.

        Args:
            advance: is told of the images that each step has taken.

        Raises:
            PipelineError: a loss or its gradients were not finite; no such step changed a weight.
        """
        self.model.train()
        torch.manual_seed(derived_seed("dropout", self.settings.seed, epoch))
        order = epoch_order(np.arange(len(self.train)), seed=self.settings.seed, epoch=epoch)
        batches = self._batches(torch.from_numpy(order).to(self.device))
        losses = torch.zeros(len(batches), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for i, batch in enumerate(batches):
            self.optimizer.lr = self.lr(epoch * len(batches) + i)
            losses[i], hits = self.step(batch, epoch)
            correct += hits
            advance(len(batch))
            if (i + 1) % READ_BACK == 0 or i + 1 == len(batches):
                self._stop_unless_finite(losses[: i + 1], batches, epoch)
        sizes = torch.tensor([len(batch) for batch in batches], dtype=torch.float64)
        mean_loss = (losses.cpu().double() * sizes).sum() / sizes.sum()
        return mean_loss.item(), correct.item() / sizes.sum().item()

    def step(self, batch: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """One update by the images at the positions ``batch`` (B,) of the train split.

        Returns:
            The loss, NaN where it led to no update, and how many were right; both on the device.
        """
        keys, targets = self.train.images.keys[batch], self.train.images.targets[batch]
        pixels = self.train.images.take(batch)  # (B, C, H, W)
        pixels = self.policy(pixels, keys, seed=self.settings.seed, epoch=epoch)
        self.optimizer.zero_grad()
        logits = self._logits(pixels)  # (B, K)
        loss = cross_entropy(
            logits,
            targets,
            self.train.weights[batch],
            label_smoothing=self.settings.label_smoothing,
        )
        torch.autograd.backward(loss)
        loss = guarded_step(self.optimizer, loss, max_norm=self.settings.gradient_clip)
        return loss, (logits.argmax(dim=1) == targets).sum()

    @torch.inference_mode()
    def validate(self) -> tuple[float, float, float]:
        """Loss, accuracy and balanced accuracy on the val split, nothing augmented.

        Raises:
            PipelineError: the loss is not finite.
        """
        self.model.eval()
        images = self.val.images
        positions = torch.arange(len(self.val), device=self.device)
        parts = [self._logits(images.take(p)) for p in torch.split(positions, VALIDATION_BATCH)]
        logits = torch.cat(parts).float()  # (N, K)
        loss = cross_entropy(
            logits,
            images.targets,
            self.val.weights,
            label_smoothing=self.settings.label_smoothing,
        ).item()
        if not math.isfinite(loss):
            raise PipelineError(
                f"the loss of the validation images is {loss}; lower the learning rate 'lr'"
            )
        drawn = Sample.of(images.targets.cpu(), logits.softmax(dim=1).cpu()).drawn()
        return loss, float(accuracy(drawn)), float(balanced_accuracy(drawn))

    def _logits(self, pixels: Tensor) -> Tensor:
        reduced = self.plan.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=reduced):
            logits: Tensor = self.model(pixels)
        return logits

    def _batches(self, order: Tensor) -> list[Tensor]:
        """``order`` in batches; a last image that is alone is left out (no norm can use it)."""
        return list(torch.split(order, self.settings.batch_size))[: self.steps_per_epoch]

    def _stop_unless_finite(self, losses: Tensor, batches: list[Tensor], epoch: int) -> None:
        finite = torch.isfinite(losses).cpu()
        if finite.all():
            return
        step = int(finite.int().argmin())
        names = [self.train.file_names[i] for i in batches[step].tolist()]
        raise PipelineError(
            f"epoch {epoch + 1}, step {step + 1}: the loss or its gradients are not finite, so the"
            f" training stops, and the step was not made. Lower the learning rate 'lr' (it was"
            f" {self.lr(epoch * len(batches) + step):.3g}), or look at the images of this step:"
            f" {', '.join(names)}"
        )


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The epoch whose weights are kept: of the highest balanced accuracy on the val split.

    Of equals the one of the lower loss, then the later one.
    """
    return max(history, key=lambda e: (e.val_balanced_accuracy, -e.val_loss, e.epoch))
