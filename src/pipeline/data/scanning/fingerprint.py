"""The small picture of an image by which near duplicates are told from images that look alike.

A worker process imports this module and nothing heavier than NumPy and Pillow.
"""

from __future__ import annotations

from PIL import Image

SIDE = 40
FINGERPRINT_BYTES = SIDE * SIDE


def fingerprint(grey: Image.Image) -> bytes:
    """The grey levels of ``grey`` at `SIDE` × `SIDE` pixels, row by row, whatever its shape.

    Args:
        grey: an upright image in mode L; best one that was made smaller by averaging already.
    """
    side = (SIDE, SIDE)
    return grey.resize(side, Image.Resampling.BILINEAR, reducing_gap=2.0).tobytes()
