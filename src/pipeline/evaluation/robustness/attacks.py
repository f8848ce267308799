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

from pipeline.evaluation.bootstrap import Interval, bootstrap, share_of
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
    flagged: tuple[Interval, ...] = ()
    """Share of the images that the reconstruction flags; of capsule networks alone."""


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
    """The sign of the cross-entropy's gradient by the images.

    Cross-entropy is log(1 + exp(margin)), where the margin is how far the other classes together
    are above the true one: the margin's gradient has the same signs, and in ``float32`` it does not
    vanish for a network that is sure.
    """
    with torch.enable_grad():
        moved = images.detach().requires_grad_()
        logits = network(moved)
        true = targets[:, None]
        margin = logits.scatter(1, true, -torch.inf).logsumexp(dim=1) - logits.gather(1, true)[:, 0]
        # The sum, so that an image's gradient does not depend on how many there are.
        (gradient,) = torch.autograd.grad(margin.sum(), moved)
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
    if strongest.flagged:
        text += (
            f" By how badly it draws them it flags {percent(strongest.flagged[-1].value)} of the"
            f" changed images, and {percent(strongest.flagged[0].value)} of the unchanged ones."
        )
    return Found(
        values={"attacked": attacked, "images": len(positions), "steps": settings.steps},
        numbers={
            "images": len(positions),
            "epsilons": list(attacked[0].epsilons),
            "accuracy": {each.title: _as_json(each.accuracy) for each in attacked},
            "flagged": {each.title: _as_json(each.flagged) for each in attacked if each.flagged},
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


def _as_json(intervals: tuple[Interval, ...]) -> list[dict[str, float | None]]:
    return [interval.as_json() for interval in intervals]


def measure_attacks(evaluated: Evaluated, positions: NDArray[np.int64]) -> list[Attacked]:
    """Each of `ATTACKS` at 0 and at ``evaluate.attacks.epsilons``, computed in float32.

    The adversary knows the network but not the reconstruction's threshold.
    """
    settings, seed = evaluated.params.evaluate.attacks, evaluated.params.evaluate.seed
    images = evaluated.resized(evaluated.images(positions))
    start = Randomness(evaluated.keys(positions), seed, 0, "pgd").uniform(*images.shape[1:])
    layout = getattr(torch, evaluated.card.plan["memory_format"])
    classifier, detector = evaluated.classifier, evaluated.detector

    def network(batch: Tensor) -> Tensor:
        return mean_logits(classifier, batch, classifier.views, layout)

    tensors = (images, evaluated.targets(positions), start)
    batches = list(zip(*(torch.split(each, _BATCH) for each in tensors), strict=True))

    def seen(attack: Attack, epsilon: float) -> Tensor:
        """(1 or 2, n): whether each image is still right, and flagged; unchanged at 0."""
        parts = []
        for batch, targets, begin in batches:
            changed = batch
            if epsilon:
                changed = attack(
                    network, batch, targets, begin, epsilon / GREY_LEVELS, settings.steps
                )
            with torch.inference_mode():
                right = network(changed).argmax(dim=1) == targets
            parts.append(torch.stack([right, detector.flags(changed)] if detector else [right]))
        return torch.cat(parts, dim=1)

    epsilons = (0.0, *settings.epsilons)
    found = []
    for title, attack in ATTACKS.items():
        outcomes = torch.stack([seen(attack, epsilon) for epsilon in epsilons], dim=1)
        intervals = []
        for rows in outcomes.double().cpu().numpy():
            metrics = {str(i): share_of(row) for i, row in enumerate(rows)}
            measured = bootstrap(evaluated.sample[positions], metrics, evaluated.resampling)
            intervals.append(tuple(measured.values()))
        found.append(Attacked(title, epsilons, *intervals))
    return found


ATTACKS: dict[str, Attack] = {"FGSM": fgsm, "PGD": pgd}
"""A new one is a function above and an entry here."""
