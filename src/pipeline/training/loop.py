"""The training loop: one epoch at a time, and the host never waits for the device within a step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.params import TrainParams
from pipeline.training.convolution import speed_up_convolutions
from pipeline.training.distributed import ALONE, Ranks
from pipeline.training.ema import Average
from pipeline.training.environment import derived_seed
from pipeline.training.execution import logits_of, training_passes
from pipeline.training.feed import Feed
from pipeline.training.freezing import frozen_norms
from pipeline.training.history import Epoch
from pipeline.training.objective import Labels, hard_mass
from pipeline.training.optimizer import build_optimizer, guarded_step
from pipeline.training.plan import Plan
from pipeline.training.profile import NoProfile, Profile
from pipeline.training.scaling import LossScale
from pipeline.training.schedule import SCHEDULES
from pipeline.training.splits import Split
from pipeline.vision.augmentation import Policy
from pipeline.vision.metrics import Sample, accuracy, balanced_accuracy
from pipeline.vision.mixing import neighbours
from pipeline.vision.models.classifier import Outputs
from pipeline.vision.models.outputs import logits_in

READ_BACK = 50
"""Steps after which the losses are looked at; until then they stay on the device."""

VALIDATION_BATCH = 256


class Trainer:
    """A network with its optimiser and data; `train_epoch` and `validate` take turns.

    What an epoch does follows from the state of network and optimiser, the seed and the epoch's
    number alone, so that a resumed training repeats an undisturbed one to the bit.

    Attributes:
        feed: the images that it is given.
        profile: is told of the parts of a step; another one may take its place between epochs.
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
        ranks: Ranks = ALONE,
    ) -> None:
        """
        Args:
            model: maps float32 (B, C, H, W) in [0, 1] to logits (B, K), in training perhaps to
                more (`models.outputs`), and changes in place.
            ranks: the processes that train it together; all of them call each method alike.
        """
        self.device = train.images.device
        self.model = model.to(self.device).to(memory_format=getattr(torch, plan.memory_format))
        if plan.precision == "bfloat16" and self.device.type == "cpu":
            speed_up_convolutions(self.model)
        self.settings, self.plan = settings, plan
        self.train, self.val, self.ranks = train, val, ranks
        self.feed = Feed(train, policy, settings, ranks)
        self.profile: Profile | NoProfile = NoProfile()
        self.optimizer = build_optimizer(
            self.model,
            name=settings.optimizer,
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        if plan.precision == "float16":
            self.optimizer.loss_scale = LossScale(self.device)
        full_batch = torch.arange(min(settings.batch_size, self.feed.images_per_epoch))
        self._passes = training_passes(
            self.model,
            plan,
            images=len(ranks.part(full_batch)),
            image_size=settings.image_size,
            chosen=settings.execution != "auto",
        )
        self.average = None if settings.ema is None else Average(self.model, decay=settings.ema)
        self._frozen_norms = frozen_norms(self.model)
        self._mass, self._mixing = train.mass, policy.mixing
        if self._mixing is not None and self._mass is None:
            self._mass = hard_mass(train.images.targets, train.weights, train.num_classes)

    @property
    def result(self) -> nn.Module:
        """The network that is validated and kept: the average where there is one."""
        return self.models[-1]

    @property
    def models(self) -> list[nn.Module]:
        return [self.model] if self.average is None else [self.model, self.average.model]

    @property
    def steps_per_epoch(self) -> int:
        return self.feed.steps_per_epoch

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
        for norm in self._frozen_norms:
            norm.eval()
        torch.manual_seed(derived_seed("dropout", self.settings.seed, epoch, *self.ranks.salt))
        batches = self.feed.begin(epoch)
        losses, hits, read = list[Tensor](), list[Tensor](), list[Tensor]()
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        self.profile.enter("the rest")
        for i, batch in enumerate(batches):
            number = epoch * len(batches) + i
            self.optimizer.lr = self.lr(number)
            loss, right = self.step(batch, epoch)
            losses.append(loss)
            hits.append(right)
            if self.average is not None:
                self.average.update(number)
            advance(len(batch))
            if (i + 1) % READ_BACK == 0 or i + 1 == len(batches):
                read.append(torch.stack(losses).cpu())
                self._stop_unless_finite(torch.cat(read), batches, epoch)
                correct += torch.cat(hits).sum()
                losses.clear()
                hits.clear()
        self.profile.leave()
        for model in self.models:
            self.ranks.average_buffers(model)
        sizes = torch.tensor([len(batch) for batch in batches], dtype=torch.float64)
        mean_loss = (torch.cat(read).double() * sizes).sum() / sizes.sum()
        return mean_loss.item(), self.ranks.total(correct).item() / sizes.sum().item()

    def step(self, batch: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """One update by ``batch`` (B,) of the train split, in passes of at most ``batch_size``.

        `Feed` says how its images are numbered.

        Returns:
            The loss, NaN where it led to no update, and (b,) ``bool``: which of the images that
            fell to this process were right; both on the device.
        """
        own = self.feed.passes_of(batch)
        count = sum(len(part) for part in own)
        self.optimizer.zero_grad()
        first = own[0] if own else batch[:0]
        loss, hits = self._backward(first, epoch, len(first) / max(count, 1))
        for part in own[1:]:
            more, right = self._backward(part, epoch, len(part) / max(count, 1))
            loss, hits = loss + more, torch.cat([hits, right])
        self.profile.enter("update")
        loss = self.ranks.sum_gradients(self.model.parameters(), loss, count / len(batch))
        loss = guarded_step(self.optimizer, loss, max_norm=self.settings.gradient_clip)
        self.profile.enter("the rest")
        return loss, hits

    def _backward(self, drawn: Tensor, epoch: int, share: float) -> tuple[Tensor, Tensor]:
        """Add the gradients of ``share`` times the mean loss of ``drawn``, which may be empty.

        Returns:
            That part of the loss, and which images were right.
        """
        if not len(drawn):
            return torch.zeros((), device=self.device), drawn.bool().to(self.device)
        enter, seed = self.profile.enter, self.settings.seed
        positions, keys, pixels = self.feed.take(drawn, epoch, self.profile)
        mass = None if self._mass is None else self._mass[positions]  # (B, K)
        if self._mixing is not None and mass is not None:
            enter("mix")
            partners = neighbours(len(drawn), self.device)
            pixels, part = self._mixing(pixels, keys, partners, seed=seed, epoch=epoch)
            mass = torch.lerp(mass[partners], mass, part[:, None])
        enter("forward")
        outputs = self._passes(pixels)
        enter("loss")
        targets = self.train.images.targets[positions]
        labels = self._labels(targets, self.train.weights[positions], mass)
        loss, hits = self._judge(outputs, pixels, labels)
        if share < 1.0:
            loss = loss * share
        enter("backward")
        scaling = self.optimizer.loss_scale
        torch.autograd.backward(loss if scaling is None else loss * scaling.scale)
        enter("the rest")
        return loss.detach(), hits

    def _judge(self, outputs: Outputs, pixels: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
        """The mean loss of a batch, and (B,) ``bool``: which images were right."""
        loss = labels.loss(self.model, outputs, pixels)
        return loss, logits_in(outputs).detach().argmax(dim=1) == labels.targets

    def _labels(self, targets: Tensor, weights: Tensor, mass: Tensor | None) -> Labels:
        return Labels(targets, weights, mass, self.settings.label_smoothing)

    def summary(self, epoch: int, train_loss: float, train_accuracy: float) -> Epoch:
        """What the epoch that is number ``epoch``, from 0, came to, the val split included."""
        last = self.lr((epoch + 1) * self.steps_per_epoch - 1)
        return Epoch(epoch + 1, last, train_loss, train_accuracy, *self.validate())

    @torch.inference_mode()
    def validate(self) -> tuple[float, float, float]:
        """Loss, accuracy and balanced accuracy on the val split, nothing augmented.

        Raises:
            PipelineError: the loss is not finite.
        """
        model, images = self.result.eval(), self.val.images
        own = self.ranks.part(torch.arange(len(self.val), device=images.index_device))
        parts = [torch.zeros(0, self.val.num_classes, device=self.device)]
        parts += [
            logits_of(model, self.plan, images.take(positions)).float()
            for positions in torch.split(own, VALIDATION_BATCH)
            if len(positions)  # not every network takes an empty batch
        ]
        logits = self.ranks.gather(torch.cat(parts), len(self.val))  # (N, K)
        labels = self._labels(images.targets, self.val.weights, self.val.mass)
        loss = labels.cross_entropy(logits).item()
        if not math.isfinite(loss):
            raise PipelineError(
                f"the loss of the validation images is {loss}; lower the learning rate 'lr'"
            )
        drawn = Sample.of(images.targets.cpu(), logits.softmax(dim=1).cpu()).drawn()
        return loss, float(accuracy(drawn)), float(balanced_accuracy(drawn))

    def _stop_unless_finite(self, losses: Tensor, batches: list[Tensor], epoch: int) -> None:
        finite = torch.isfinite(losses)
        if finite.all():
            return
        step = int(finite.int().argmin())
        names = [self.train.file_names[i % len(self.train)] for i in batches[step].tolist()]
        raise PipelineError(
            f"epoch {epoch + 1}, step {step + 1}: the loss or its gradients are not finite, so the"
            f" training stops, and the step was not made. Lower the learning rate 'lr' (it was"
            f" {self.lr(epoch * len(batches) + step):.3g}), or look at the images of this step:"
            f" {', '.join(names)}"
        )
