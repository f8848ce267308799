"""Images unlike those that a capsule network was trained on, by how badly it draws them.

Frosst, Sabour and Hinton, DARCCC: detecting adversaries by reconstruction from class conditional
capsules, 2018 (arXiv:1811.06969): the network draws what its winning capsule describes, and an
image further from its drawing than nearly all validation images is taken for another kind.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.errors import PipelineError
from pipeline.vision.inference import device_batch
from pipeline.vision.models import Classifier
from pipeline.vision.models.capsnet import CapsNet, lengths

FALSE_ALARMS = 0.05
"""Share of the validation images that lie beyond the usual threshold."""


def reconstruction_distances(
    classifier: Classifier,
    images: NDArray[np.uint8],
    *,
    image_size: int,
    device: torch.device | str = "cpu",
    rows: NDArray[np.int64] | None = None,
    batch_size: int = 256,
) -> NDArray[np.float32]:
    """How far each image is from what the network draws of it: (n,) ``float32``, in grey levels.

    It is the root of the mean squared difference of their pixels, from 0 to 1.

    Args:
        classifier: around a `CapsNet`, on ``device``; its mode is the same afterwards.
        images: (N, H, W, C); may be mapped into memory, it is read batch by batch.
        image_size: `ModelCard.image_size`.
        device: where to compute, in float32.
        rows: which of ``images``; all by default.
        batch_size: images at a time.

    Raises:
        PipelineError: the network draws nothing.
    """
    net = classifier.net
    if not isinstance(net, CapsNet):
        raise PipelineError(
            f"a {type(net).__name__} draws no images, so they have no distance to them; train a"
            " variant of the model 'capsnet'"
        )

    place, chosen = torch.device(device), np.arange(len(images)) if rows is None else rows
    found = np.empty(len(chosen), np.float32)
    training = classifier.training
    classifier.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(chosen), batch_size):
                batch = images[chosen[start : start + batch_size]]
                pixels = device_batch(batch, place, image_size)
                found[start : start + len(batch)] = _distances(classifier, net, pixels).cpu()
    finally:
        classifier.train(training)
    return found


def _distances(classifier: Classifier, net: CapsNet, pixels: Tensor) -> Tensor:
    """(N, C, H, W) in [0, 1] -> (N,)."""
    seen = classifier.normalise(pixels)
    capsules = net.capsules(seen if classifier.front is None else classifier.front(seen))
    winners = functional.one_hot(lengths(capsules).argmax(dim=1), capsules.shape[1])
    drawn = net.reconstruct(capsules, winners.float())
    return (drawn - pixels).square().mean(dim=(1, 2, 3)).sqrt()


def distance_threshold(
    validation: NDArray[np.float32], *, false_alarms: float = FALSE_ALARMS
) -> float:
    """The distance that at most a share ``false_alarms`` of the validation images lies beyond.

    Args:
        validation: (n,) their `reconstruction_distances`.
        false_alarms: from 0 to 1.

    Raises:
        ValueError: there are none, or no such share.
    """
    if not len(validation) or not 0.0 <= false_alarms <= 1.0:
        raise ValueError(
            f"{len(validation)} distances and a share of {false_alarms} give no threshold"
        )
    return float(np.quantile(validation, 1.0 - false_alarms, method="higher"))
