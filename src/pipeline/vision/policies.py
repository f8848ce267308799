"""Augmentation policies by name, for photographs that may be mirrored left and right.

Each is what a section ``policy`` of ``params.yaml`` could hold, so that one can be copied there and
changed: for digits or text without ``flip``, for pictures that have no upright side with
``vertical`` in it as well.
"""

from __future__ import annotations

from collections.abc import Mapping

POLICIES: dict[str, Mapping[str, Mapping[str, float]]] = {
    # The images as they are.
    "none": {},
    # Mirrored, and moved by whole pixels: no pixel is interpolated. For small images and for short
    # trainings.
    "light": {
        "flip": {"horizontal": 0.5},
        "crop": {"padding": 0.08},
    },
    # Another distance, angle and light, and something in front. For most data.
    "standard": {
        "flip": {"horizontal": 0.5},
        "crop": {"cut": 0.3, "aspect": 0.15},
        "affine": {"rotate": 10.0, "shear": 5.0},
        "colour": {"brightness": 0.1, "contrast": 0.2, "saturation": 0.2, "hue": 0.02},
        "erase": {"probability": 0.25, "area": 0.2},
    },
    # All of that further, AugMix, and two images in one. For large networks and long trainings.
    "strong": {
        "flip": {"horizontal": 0.5},
        "crop": {"cut": 0.6, "aspect": 0.33},
        "affine": {"rotate": 15.0, "shear": 8.0},
        "augmix": {"chains": 3, "severity": 3},
        "colour": {"brightness": 0.2, "contrast": 0.4, "saturation": 0.4, "hue": 0.05},
        "grey": {"probability": 0.1},
        "erase": {"probability": 0.25, "area": 0.3},
        "mixup": {"alpha": 0.2, "probability": 0.5},
        "cutmix": {"alpha": 1.0, "probability": 0.5},
    },
}
