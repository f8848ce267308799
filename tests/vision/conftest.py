"""Packed data for the tests of what reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.pack import Packed, pack
from tests.packing import augment_params, make_images, make_workspace


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """24 grey images of 16 px."""
    return _pack(tmp_path_factory.mktemp("grey"), "L")


@pytest.fixture(scope="session")
def packed_colour(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """24 RGB images of 16 px."""
    return _pack(tmp_path_factory.mktemp("colour"), "RGB")


def _pack(root: Path, mode: str) -> Packed:
    workspace = make_workspace(root, make_images(24, mode=mode))
    pack(workspace, augment_params())
    return Packed.load(workspace.packed)
