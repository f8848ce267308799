"""The gradient of a class's logit with respect to the image, which most methods begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError

BATCH = 32
"""Images whose gradients are computed at a time. It bounds memory, and more at a time are slower on
a CPU, whose caches they leave."""

NO_GRADIENT = "no gradient reaches the image: an operation between it and the logits has none"


class CannotExplain(PipelineError):
    """A method does not apply to a network; the message has the reason.

    Raised in place of a map that would look like an explanation and be none.
    """


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """``model`` as it predicts; afterwards each of its modules is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def forward(
    model: nn.Module, images: Tensor, within: AbstractContextManager[object] | None = None
) -> tuple[Tensor, Tensor]:
    """A copy of ``images`` (N, C, H, W) that gradients can be asked of, and its logits (N, K).

    Call it with gradients on and within `evaluating`. The model alone runs in ``within``.

    Raises:
        CannotExplain: the logits have no gradient.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images are {images.dtype} {tuple(images.shape)}, not float (N, C, H, W)")
    leaf = images.detach().clone().requires_grad_()
    with within or nullcontext():
        logits = model(leaf)
    if logits.grad_fn is None:
        raise CannotExplain(
            "the logits have no gradient: the network runs without recording one, or an operation "
            "in it has none"
        )
    return leaf, logits


def of_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum of each image's logit of its target: a gradient of it has each image's own."""
    return logits.gather(1, targets[:, None]).sum()


def with_respect_to(inputs: Tensor, score: Tensor) -> Tensor:
    """The gradient of ``score``, in the shape of ``inputs``.

    Raises:
        CannotExplain: the score does not depend on them by way of gradients.
    """
    (gradient,) = torch.autograd.grad(score, inputs, allow_unused=True)
    if gradient is None:
        raise CannotExplain(NO_GRADIENT)
    return gradient


def in_batches(
    explain: Callable[[Tensor, Tensor], Tensor], images: Tensor, targets: Tensor
) -> Tensor:
    """What ``explain`` gives for `BATCH` images and their targets at a time, of all images."""
    parts = zip(torch.split(images, BATCH), torch.split(targets, BATCH), strict=True)
    return torch.cat([explain(*part) for part in parts])


def gradient(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """The gradient of each image's target logit with respect to it, (N, C, H, W)."""

    def of_batch(images: Tensor, targets: Tensor) -> Tensor:
        leaf, logits = forward(model, images)
        return with_respect_to(leaf, of_targets(logits, targets))

    with torch.enable_grad(), evaluating(model):
        return in_batches(of_batch, images, targets)


def magnitude(gradients: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, 1, H, W): the largest absolute value of the channels at each place."""
    return gradients.abs().amax(dim=1, keepdim=True)
