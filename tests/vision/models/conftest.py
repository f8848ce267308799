"""Networks of the table, built as a training would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.vision.models import Classifier, build


@pytest.fixture
def make() -> Callable[..., Classifier]:
    """A network for three classes of grey images of 28 px, but for what is given."""

    def make(model: str, channels: int = 1, num_classes: int = 3, **changes: Any) -> Classifier:
        architecture = changes.pop("architecture", {})
        return build(
            model,
            channels=channels,
            num_classes=num_classes,
            image_size=changes.pop("image_size", 28),
            architecture=architecture,
            mean=[0.4] * channels,
            std=[0.2] * channels,
            where="variants.x",
            **changes,
        )

    return make
