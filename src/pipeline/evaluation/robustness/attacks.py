"""How a network stands an adversary that may change each number of the image by up to epsilon.

FGSM takes one step of that size up the loss (Goodfellow et al., Explaining and harnessing
adversarial examples, 2015, arXiv:1412.6572). PGD takes several smaller ones from a random start and
returns into the allowed box after each (Madry et al., Towards deep learning models resistant to
adversarial attacks, 2018, arXiv:1706.06083).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.evaluation.bootstrap import Interval, bootstrap, mean_of
from pipeline.evaluation.page import Drawing
from pipeline.evaluation.robustness.corruption import Randomness
from pipeline.evaluation.section import Evaluated, Found
from pipeline.evaluation.sweeps import accuracy_over_epsilon
from pipeline.evaluation.verdict import Point
from pipeline.evaluation.wording import percent
from pipeline.vision.views import mean_logits

Network = Callable[[Tensor], Tensor]
Attack = Callable[[Network, Tensor, Tensor, Tensor, float, int], Tensor]
"""(network, images, targets, start, epsilon, steps) -> changed images."""
GREY_LEVELS = 255
_BATCH = 32
"""Images at a time: their activations are kept for the gradient."""
_STEP = 2.5
"""Of PGD, in ``epsilon / steps``: far enough to reach any corner of the box (Madry et al.)."""


@dataclass(frozen=True)
class Attacked:
    """The accuracy under one attack; ``epsilons`` are in grey levels of 255."""

    title: str
    epsilons: tuple[float, ...]
    accuracy: tuple[Interval, ...]


def fgsm(
    network: Network,
    images: Tensor,
    targets: Tensor,
    start: Tensor,  # noqa: ARG001
    epsilon: float,
    steps: int = 1,  # noqa: ARG001
) -> Tensor:
    """Images whose every number is ``epsilon`` away where that raises the loss.

    Args:
        network: from images to logits (N, K).
        images: (N, C, H, W) in [0, 1].
        targets: (N,) ``int64``.
        start: not used: the step begins at the images.
        epsilon: as a share of the range from black to white.
        steps: not used: there is one.

    Returns:
        Like ``images``, within ``epsilon`` of them and in [0, 1].
    """
    return _inside(images + epsilon * _uphill(network, images, targets), images, epsilon)


def pgd(
    network: Network, images: Tensor, targets: Tensor, start: Tensor, epsilon: float, steps: int
) -> Tensor:
    """As `fgsm`, in ``steps`` steps from ``start``: where in the allowed box, from 0 to 1, each
    number begins."""
    changed = _inside(images + epsilon * (2.0 * start - 1.0), images, epsilon)
    for _ in range(steps):
        step = _STEP * epsilon / steps
        changed = _inside(changed + step * _uphill(network, changed, targets), images, epsilon)
    return changed


def _uphill(network: Network, images: Tensor, targets: Tensor) -> Tensor:
    """The sign of the loss's gradient by the images."""
    with torch.enable_grad():
        moved = images.detach().requires_grad_()
        # The sum, so that an image's gradient does not depend on how many there are.
        loss = functional.cross_entropy(network(moved), targets, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, moved)
    return gradient.sign()


def _inside(changed: Tensor, images: Tensor, epsilon: float) -> Tensor:
    low, high = (images - epsilon).clamp(min=0.0), (images + epsilon).clamp(max=1.0)
    return torch.maximum(torch.minimum(changed, high), low)


def find(evaluated: Evaluated) -> Found:
    """Accuracy over epsilon on up to ``evaluate.attacks.images`` test images."""
    settings = evaluated.params.evaluate.attacks
    positions = evaluated.some_test_images(settings.images)
    attacked = measure_attacks(evaluated, positions)

    strongest = attacked[-1]
    text = (
        f"An adversary that may change each pixel by {strongest.epsilons[-1]:g} of 255 grey levels"
        f" leaves {percent(strongest.accuracy[-1].value)} of {len(positions):,} test images right"
        f" (without one: {percent(strongest.accuracy[0].value)})."
    )
    return Found(
        values={"attacked": attacked, "images": len(positions), "steps": settings.steps},
        numbers={
            "images": len(positions),
            "epsilons": list(attacked[0].epsilons),
            "accuracy": {
                each.title: [interval.as_json() for interval in each.accuracy] for each in attacked
            },
        },
        points=(Point("Adversaries", text),),
        drawings=(
            Drawing(
                "attacks",
                "Accuracy under attack",
                "Each pixel may change by epsilon grey levels of 255. PGD is the stronger attack:"
                " what it leaves is nearest to what an adversary cannot take.",
                partial(accuracy_over_epsilon, attacked),
            ),
        ),
    )


def measure_attacks(evaluated: Evaluated, positions: NDArray[np.int64]) -> list[Attacked]:
    """Each of `ATTACKS` at 0 and at ``evaluate.attacks.epsilons``, computed in float32."""
    settings, seed = evaluated.params.evaluate.attacks, evaluated.params.evaluate.seed
    images = evaluated.resized(evaluated.images(positions))
    start = Randomness(evaluated.keys(positions), seed, 0, "pgd").uniform(*images.shape[1:])
    layout = getattr(torch, evaluated.card.plan["memory_format"])
    classifier = evaluated.classifier

    def network(batch: Tensor) -> Tensor:
        return mean_logits(classifier, batch, classifier.views, layout)

    tensors = (images, evaluated.targets(positions), start)
    batches = list(zip(*(torch.split(each, _BATCH) for each in tensors), strict=True))

    def right(attack: Attack, epsilon: float) -> Tensor:
        """(n,) whether each image is still right; of none changed at 0."""
        parts = []
        for batch, targets, begin in batches:
            changed = batch
            if epsilon:
                changed = attack(
                    network, batch, targets, begin, epsilon / GREY_LEVELS, settings.steps
                )
            with torch.inference_mode():
                parts.append(network(changed).argmax(dim=1) == targets)
        return torch.cat(parts)

    epsilons = (0.0, *settings.epsilons)
    found = []
    for title, attack in ATTACKS.items():
        rows = torch.stack([right(attack, epsilon) for epsilon in epsilons]).double().cpu().numpy()
        metrics = {str(i): mean_of(row) for i, row in enumerate(rows)}
        measured = bootstrap(evaluated.sample[positions], metrics, evaluated.resampling)
        found.append(Attacked(title, epsilons, tuple(measured.values())))
    return found


ATTACKS: dict[str, Attack] = {"FGSM": fgsm, "PGD": pgd}
"""A new one is a function above and an entry here."""
