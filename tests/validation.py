"""Settings of the validation for tests, of small data that is sound."""

from __future__ import annotations

from pipeline.params import ValidationParams

PARAMS = ValidationParams(
    formats=("PNG", "JPEG"),
    modes=("L", "RGB"),
    min_side=32,
    max_side=1000,
    max_aspect_ratio=8.0,
    min_brightness=0.04,
    max_brightness=0.96,
    min_contrast=0.01,
    min_sharpness=2.0,
    min_entropy=1.0,
    min_images_per_class=2,
    max_imbalance=2.0,
    max_drift=0.1,
    quarantine_budget=0.5,
    severity={},
)
