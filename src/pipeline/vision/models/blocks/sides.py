"""The side of the feature maps, worked out layer by layer before anything is built.

Dumoulin and Visin, A guide to convolution arithmetic, 2016 (arXiv:1603.07285).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.errors import ConfigurationError

_LARGEST = 2048
"""Pixels: the largest ``image_size`` that ``params.yaml`` may ask for."""


@dataclass(frozen=True)
class Layer:
    """One that changes the side of what it is given."""

    what: str
    kernel: int
    stride: int = 1
    padding: int = 0

    def side(self, before: int) -> int | None:
        """The side of what comes out; None where the kernel does not fit in."""
        room = before + 2 * self.padding - self.kernel
        return room // self.stride + 1 if room >= 0 else None


def convolution(kernel: int, stride: int = 1, padding: int = 0) -> Layer:
    """A convolution as the arithmetic sees it."""
    return Layer(f"convolution of {kernel}×{kernel}", kernel, stride, padding)


def pooling(size: int, stride: int | None = None, padding: int = 0) -> Layer:
    """A pooling layer as the arithmetic sees it; its stride is its size unless given."""
    return Layer(f"pooling of {size}×{size}", size, stride or size, padding)


def side_after(
    model: str,
    image_size: int,
    layers: Sequence[Layer] | Callable[[int], Sequence[Layer]],
) -> int:
    """The side of the feature maps after ``layers``.

    Args:
        model: the network's name, for the message.
        image_size: side of the images in pixels.
        layers: in their order; or what they are for a size of image.

    Raises:
        ConfigurationError: the images are too small; the message has each side and the smallest
            image that would do.
    """
    sides, failed = _sides(image_size, layers)
    if failed is None:
        return sides[-1]
    larger = range(image_size, _LARGEST + 1)
    enough = next((size for size in larger if _sides(size, layers)[1] is None), None)
    needed = f"at least {enough} px" if enough else f"more than {_LARGEST} px"
    way = " → ".join(map(str, sides))
    raise ConfigurationError(
        f"{model} needs images of {needed}, not {image_size}: the side of its"
        f" feature maps would be {way} px, too few for a {failed.what}"
    )


def _sides(
    image_size: int, layers: Sequence[Layer] | Callable[[int], Sequence[Layer]]
) -> tuple[list[int], Layer | None]:
    """The sides, and the layer that the last one is too small for."""
    sides = [image_size]
    for layer in layers(image_size) if callable(layers) else layers:
        after = layer.side(sides[-1])
        if after is None:
            return sides, layer
        sides.append(after)
    return sides, None
