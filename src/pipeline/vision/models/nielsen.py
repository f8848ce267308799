"""The convolutional networks of Nielsen, Neural Networks and Deep Learning, 2015, chapter 6.

Convolutions of 5×5 without padding, each followed by maxima over 2×2 pixels, then dense layers.
His six networks, by the accuracy on MNIST that he gives for them:

- 98.78 %: ``maps: [20], dense: [100], activation: sigmoid``
- 99.06 %: ``maps: [20, 40], dense: [100], activation: sigmoid``
- 99.23 %: ``maps: [20, 40], dense: [100]`` (ReLU), with an L2 penalty of 0.1
- 99.37 %: the same with images moved by a pixel (``augment.shifts: 1``)
- 99.43 %: ``maps: [20, 40], dense: [1000]``
- 99.60 %: ``maps: [20, 40], dense: [1000, 1000], dropout: 0.5``

``initialisation: nielsen`` is his. His L2 penalty λ is ``optimizer: sgd, momentum: 0.0`` with a
``weight_decay`` of λ over the number of batches in an epoch: 0.1 / 5,000 for his batches of 10. His
biases are not penalised, and neither are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pipeline.errors import ConfigurationError
from pipeline.vision.models.blocks.arguments import number, whole_numbers
from pipeline.vision.models.blocks.kit import Kit
from pipeline.vision.models.blocks.sides import side_after

KERNEL = 5
POOL = 2


def nielsen(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    maps: Sequence[int] = (20, 40),
    dense: Sequence[int] = (100,),
    dropout: float = 0.0,
    convolution: str = "plain",
    activation: str = "relu",
    normalisation: str = "none",
    pooling: str = "max",
    last_pooling: str = "flatten",
    initialisation: str = "nielsen",
) -> nn.Module:
    """One of the networks above, or another of their kind.

    Args:
        channels: of the images.
        num_classes: how many logits.
        image_size: side of the images in pixels.
        maps: feature maps of each convolution.
        dense: units of each dense layer.
        dropout: share of the inputs of every dense layer dropped in training, that of the logits
            included.
        convolution: a key of `CONVOLUTIONS`.
        activation: a key of `ACTIVATIONS`.
        normalisation: a key of `NORMALISATIONS`.
        pooling: a key of `POOLINGS`, or ``none``.
        last_pooling: a key of `LAST_POOLINGS`.
        initialisation: a key of `INITIALISATIONS`.

    Raises:
        ConfigurationError: an argument is out of its range, or the images are too small.
    """
    widths = whole_numbers("maps", maps, low=1, high=4096)
    units = whole_numbers("dense", dense, low=1, high=65536)
    share = number("dropout", dropout, low=0.0, high=1.0)
    if not widths:
        raise ConfigurationError(
            "architecture.maps is empty, so there is nothing to pool; 'mlp' has no maps"
        )
    kit = Kit(convolution, activation, normalisation, pooling, last_pooling, initialisation)
    side = side_after("nielsen", image_size, kit.stage_sides(KERNEL, pool=POOL) * len(widths))
    layers: list[nn.Module] = []
    before = channels
    for after in widths:
        layers += kit.stage(before, after, KERNEL, pool=POOL)
        before = after
    last, before = kit.features(before, side)
    layers.append(last)
    dropping = [nn.Dropout(share)] if share else []
    for after in units:
        layers += [*dropping, *kit.dense(before, after)]
        before = after
    net = nn.Sequential(*layers, *dropping, nn.Linear(before, num_classes))
    kit.initialise(net)
    return net
