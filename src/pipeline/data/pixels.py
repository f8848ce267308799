"""From an image file's bytes to the pixels a model sees: packing and prediction share this."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.decode import DecodeError, open_image

Pixels = NDArray[np.uint8]

GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"}
"""Pillow's modes without colour."""


def decode_image(
    data: bytes, *, channels: int, image_size: int, max_pixels: int = 50_000_000
) -> Pixels:
    """The image in ``data`` as the models see it: (image_size, image_size, channels) ``uint8``.

    The whole image is squeezed into the square (Lanczos). A crop could lose the very defect at the
    border, padding would add edges that are no part of the object, and a network learns from
    stretched images as long as all are stretched alike.

    Raises:
        DecodeError: the bytes are no usable image.
    """
    image = _eight_bits(open_image(data, max_pixels=max_pixels))
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (image_size, image_size):
        image = image.resize((image_size, image_size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image).reshape(image_size, image_size, channels)


def _eight_bits(image: Image.Image) -> Image.Image:
    """``image`` without alpha (over white, as a page shows it) and with 8 bits a channel."""
    if image.mode == "F":
        raise DecodeError("unreadable", "floating-point pixels have no defined range")
    if image.mode.startswith("I"):
        # 16 bits, also where Pillow holds them in 32; `convert` would clip, not scale.
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image.convert("RGBA")).convert(
            "L" if image.mode in GREY_MODES else "RGB"
        )
    return image


def moments(histogram: NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation in [0, 1] of each channel from how often it has each value.

    Exact however the pixels were counted. ``histogram`` is (C, 256).
    """
    values = np.arange(256) / 255
    count = histogram.sum(axis=1)
    mean = (histogram * values).sum(axis=1) / count
    variance = (histogram * (values - mean[:, None]) ** 2).sum(axis=1) / count
    return mean.tolist(), np.sqrt(variance).tolist()
