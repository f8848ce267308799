"""The choice of blocks that one network is built from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from pipeline.errors import ConfigurationError
from pipeline.vision.models.blocks import sides
from pipeline.vision.models.blocks.activation import ACTIVATIONS, NEVER_NEGATIVE
from pipeline.vision.models.blocks.arguments import choice
from pipeline.vision.models.blocks.convolution import CONVOLUTIONS
from pipeline.vision.models.blocks.initialisation import INITIALISATIONS
from pipeline.vision.models.blocks.normalisation import NORMALISATIONS
from pipeline.vision.models.blocks.pooling import LAST_POOLINGS, POOLINGS, STRIDED


@dataclass(frozen=True)
class Kit:
    """Names of blocks, checked alone and together, and what is made of them.

    Raises:
        ConfigurationError: there is no such block, or two of them cannot work together.
    """

    convolution: str = "plain"
    activation: str = "relu"
    normalisation: str = "none"
    pooling: str = "max"
    last_pooling: str = "flatten"
    initialisation: str = "he"

    def __post_init__(self) -> None:
        if self.convolution == "transposed":
            raise ConfigurationError(
                "architecture.convolution is 'transposed', which makes maps larger and is for"
                f" decoders; there are: {', '.join(CONVOLUTIONS)}"
            )
        if self.pooling == "spatial_pyramid":
            raise ConfigurationError(
                "architecture.pooling is 'spatial_pyramid', which gives features and no maps; set"
                " last_pooling: spatial_pyramid"
            )
        choice("convolution", self.convolution, CONVOLUTIONS)
        choice("activation", self.activation, ACTIVATIONS)
        choice("normalisation", self.normalisation, NORMALISATIONS)
        choice("pooling", self.pooling, [*POOLINGS, STRIDED])
        choice("last_pooling", self.last_pooling, LAST_POOLINGS)
        choice("initialisation", self.initialisation, INITIALISATIONS)
        if self.pooling == "stochastic" and self.activation not in NEVER_NEGATIVE:
            raise ConfigurationError(
                "architecture.pooling: stochastic draws in proportion to the activations, which"
                f" must not be negative, and activation is '{self.activation}'; set it to"
                f" {' or '.join(NEVER_NEGATIVE)}"
            )

    def stage(
        self, before: int, after: int, kernel: int, *, padding: int = 0, pool: int = 1
    ) -> list[nn.Module]:
        """Convolution, normalisation, activation, and pooling of ``pool`` × ``pool`` pixels."""
        strided = self.pooling == STRIDED
        layers: list[nn.Module] = [
            self.convolve(before, after, kernel, stride=pool if strided else 1, padding=padding),
            *self.normalise(after, maps=True),
            self.activate(),
        ]
        if pool > 1 and not strided:
            layers.append(POOLINGS[self.pooling](pool, pool, after))
        return layers

    def convolve(
        self, before: int, after: int, kernel: int, *, stride: int = 1, padding: int = 0
    ) -> nn.Module:
        """The convolution, with a bias where no normalisation follows."""
        return CONVOLUTIONS[self.convolution](
            *(before, after, kernel),
            stride=stride,
            padding=padding,
            bias=self.normalisation == "none",
        )

    def stage_sides(self, kernel: int, *, padding: int = 0, pool: int = 1) -> list[sides.Layer]:
        """What a `stage` does to the side of its maps, for `sides.side_after`."""
        if self.pooling == STRIDED or pool == 1:
            return [sides.convolution(kernel, pool, padding)]
        return [sides.convolution(kernel, 1, padding), sides.pooling(pool)]

    def dense(self, before: int, after: int) -> list[nn.Module]:
        """A fully connected layer, normalised and activated."""
        linear = nn.Linear(before, after, bias=self.normalisation == "none")
        return [linear, *self.normalise(after, maps=False), self.activate()]

    def normalise(self, channels: int, *, maps: bool) -> list[nn.Module]:
        """The normalisation, if there is one."""
        if self.normalisation == "none":
            return []
        return [NORMALISATIONS[self.normalisation](channels, maps=maps)]

    def activate(self) -> nn.Module:
        return ACTIVATIONS[self.activation]()

    def features(self, channels: int, side: int) -> tuple[nn.Module, int]:
        """The last pooling, and how many features it makes of maps of this ``side``."""
        last = LAST_POOLINGS[self.last_pooling]()
        by_pooling = {"flatten": side * side, "average": 1, "spatial_pyramid": 1 + 4 + 16}
        return last, channels * by_pooling[self.last_pooling]

    def initialise(self, net: nn.Module) -> None:
        INITIALISATIONS[self.initialisation](net)
