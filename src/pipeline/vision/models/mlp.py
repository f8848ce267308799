"""Fully connected networks: the baseline that a convolution has to beat.

The default, 300 and 100 hidden units, is the largest of LeCun et al., Gradient-based learning
applied to document recognition, 1998 (2.45 per cent of errors on MNIST).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pipeline.vision.models.blocks.arguments import number, whole_numbers
from pipeline.vision.models.blocks.kit import Kit


def mlp(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    hidden: Sequence[int] = (300, 100),
    activation: str = "relu",
    normalisation: str = "none",
    dropout: float = 0.0,
    initialisation: str = "he",
) -> nn.Module:
    """Dense layers alone.

    Args:
        channels: of the images.
        num_classes: how many logits.
        image_size: side of the images in pixels.
        hidden: units of each hidden layer; none for a linear classifier.
        activation: a key of `ACTIVATIONS`.
        normalisation: a key of `NORMALISATIONS`.
        dropout: share of each hidden layer's units dropped in training.
        initialisation: a key of `INITIALISATIONS`.

    Raises:
        ConfigurationError: an argument is out of its range.
    """
    units = whole_numbers("hidden", hidden, low=1, high=65536)
    share = number("dropout", dropout, low=0.0, high=1.0)
    kit = Kit(activation=activation, normalisation=normalisation, initialisation=initialisation)
    layers: list[nn.Module] = [nn.Flatten()]
    before = channels * image_size**2
    for after in units:
        layers += kit.dense(before, after)
        if share:
            layers.append(nn.Dropout(share))
        before = after
    net = nn.Sequential(*layers, nn.Linear(before, num_classes))
    kit.initialise(net)
    return net
