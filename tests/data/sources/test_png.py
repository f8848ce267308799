"""PNGs of stored pixels: lossless, and of bytes that no compressor has a say in."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.data.sources.png import png_bytes


@pytest.mark.parametrize(
    "shape", [(1, 1), (28, 28), (32, 32, 3), (5, 7, 1), (300, 300, 3), (256, 255)]
)
def test_pixels_come_back(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with Image.open(io.BytesIO(png_bytes(pixels))) as image:
        image.load()
        assert image.format == "PNG"
        assert image.mode == ("RGB" if shape[2:] == (3,) else "L")
        assert np.array_equal(np.asarray(image).reshape(shape), pixels)


def test_bytes_never_change():
    digest = hashlib.sha256(png_bytes(np.arange(16, dtype=np.uint8).reshape(4, 4))).hexdigest()
    assert digest == "103aa2a82097c7a47a08bcb1ffcc14b82b2a001a1ad4fd1e548114bcadafe2b6"
