"""Trainings that end in the midst of it, as by a kill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pipeline.training.checkpoint import CheckpointFolder


class Ended(BaseException):
    """As a kill would, it passes through everything."""


@contextmanager
def ended_after(saves: int) -> Iterator[None]:
    """What runs within it ends right after it has saved that many checkpoints."""
    save, left = CheckpointFolder.save, [saves]

    def save_then_end(self: CheckpointFolder, *args: Any, **kwargs: Any) -> None:
        save(self, *args, **kwargs)
        left[0] -= 1
        if not left[0]:
            raise Ended

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointFolder, "save", save_then_end)
        with pytest.raises(Ended):
            yield
