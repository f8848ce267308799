"""Pixels where they lie: the same as a copy, and there as long as they are needed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipeline.data.scanning.memory import stored_bytes
from tests.images import picture

MODES = ["L", "P", "RGB", "RGBA", "CMYK"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (641, 479)])
def test_stored_bytes_are_the_pixels(mode, size):
    image = picture(5, mode="RGB", size=size).convert(mode)
    stored, copied = stored_bytes(image), np.asarray(image)
    assert np.array_equal(stored[..., :3] if mode == "RGB" else stored, copied)
    assert not stored.flags.writeable


def test_stored_bytes_outlive_their_image():
    expected = np.asarray(picture(6, size=(500, 400)))
    stored = stored_bytes(picture(6, size=(500, 400)))
    others = [picture(seed, size=(500, 400)) for seed in range(7, 12)]  # would take its memory
    assert np.array_equal(stored, expected)
    assert len(others) == 5


@pytest.mark.parametrize("mode", MODES)
def test_an_image_in_several_pieces_is_copied(mode, monkeypatch):
    def in_pieces(*_: object) -> None:
        raise ValueError("not in one block")

    image = picture(7, mode="RGB", size=(90, 70)).convert(mode)
    whole = stored_bytes(image).copy()
    monkeypatch.setattr(Image.Image, "__arrow_c_array__", in_pieces)
    pieces = stored_bytes(image)
    seen = 3 if mode == "RGB" else None
    assert np.array_equal(pieces[..., :seen], whole[..., :seen])


def test_an_image_larger_than_a_piece_of_memory_is_seen_whole():
    width, height = 3000, 1500  # Pillow's pieces are of 16 MB
    image = picture(8, size=(width // 10, height // 10)).resize((width, height))
    with pytest.raises(ValueError, match="contiguous"):
        image.convert("RGB").__arrow_c_array__()
    assert np.array_equal(stored_bytes(image.convert("RGB"))[..., 0], np.asarray(image))


def test_a_mode_of_other_pixels_is_refused():
    with pytest.raises(ValueError, match="mode I;16"):
        stored_bytes(Image.new("I;16", (2, 2)))
