"""Images unlike those that a capsule network was trained on, by how badly it draws them.

Frosst, Sabour and Hinton, DARCCC: detecting adversaries by reconstruction from class conditional
capsules, 2018 (arXiv:1811.06969): the network draws what its winning capsule describes, and an
image further from its drawing than nearly all validation images is taken for another kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.vision.models import Classifier
from pipeline.vision.models.capsnet import CapsNet, lengths

FALSE_ALARMS = 0.05
"""Share of the validation images that lie beyond the usual threshold."""
_BATCH = 64


@dataclass(frozen=True)
class Detector:
    """Flags the images that a network draws worse than nearly all validation images."""

    classifier: Classifier
    threshold: float
    """The largest distance that raises no alarm."""

    @classmethod
    def fitted(cls, classifier: Classifier, images: Tensor) -> Detector:
        """By validation images as `reconstruction_distances` takes them."""
        known = reconstruction_distances(classifier, images)
        return cls(classifier, distance_threshold(known.cpu().numpy()))

    def distances(self, images: Tensor) -> Tensor:
        """See `reconstruction_distances`."""
        return reconstruction_distances(self.classifier, images)

    def flags(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in the network's size -> (N,) ``bool``."""
        return self.distances(images) > self.threshold


def reconstruction_distances(classifier: Classifier, images: Tensor) -> Tensor:
    """How far images are from what the network draws of them, as a share of black to white.

    It is the root of the mean squared difference of their pixels.

    Args:
        classifier: around a `CapsNet` in eval mode.
        images: (N, C, H, W) ``float32`` in [0, 1] in the network's size, on its device.

    Returns:
        (N,) ``float32`` from 0 to 1, computed in float32.
    """
    with torch.inference_mode():
        return torch.cat([_distances(classifier, batch) for batch in torch.split(images, _BATCH)])


def _distances(classifier: Classifier, pixels: Tensor) -> Tensor:
    net = cast("CapsNet", classifier.net)
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
