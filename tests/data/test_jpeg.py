"""JPEGs that are damaged inside: what their markers tell, and what they do not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.decode import DecodeError, open_image
from pipeline.data.jpeg import find_damage
from tests.images import encoded, picture

PICTURE = picture(1, size=(24, 18)).resize((200, 150))
KINDS = {
    "baseline": encoded(PICTURE, "JPEG"),
    "colour": encoded(PICTURE.convert("RGB"), "JPEG"),
    "progressive": encoded(PICTURE, "JPEG", progressive=True),
    "restarts": encoded(PICTURE, "JPEG", restart_marker_rows=1),
    "optimised": encoded(PICTURE, "JPEG", optimize=True, quality=100),
    "comment": encoded(PICTURE, "JPEG", comment=b"\xff\xda a comment \xff\xd3"),
}


def overwritten(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def inside(data: bytes) -> int:
    """A place within the code of the first scan, not the second half of an escaped byte."""
    place = data.rindex(b"\xff\xda") + 40
    while data[place - 1] == 255 or data[place] == 255:
        place += 1
    return place


@pytest.mark.parametrize("kind", KINDS)
def test_sound_files_are_sound(kind):
    assert find_damage(KINDS[kind]) is None
    assert find_damage(KINDS[kind] + b"\xff\xd0 what cameras add after the end") is None
    assert open_image(KINDS[kind]).size == (200, 150)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("marker", [0xC0, 0xD0, 0xD3, 0xD8, 0x02, 0xF7])
def test_a_marker_where_none_may_be_is_damage(kind, marker):
    data = overwritten(KINDS[kind], inside(KINDS[kind]), bytes([255, marker]))
    assert find_damage(data) is not None
    with pytest.raises(DecodeError):
        open_image(data)


def test_a_lost_restart_interval_is_damage():
    data = KINDS["restarts"]
    start, end = data.index(b"\xff\xd1"), data.index(b"\xff\xd2")
    assert "out of order" in str(find_damage(data[:start] + data[end:]))
    assert "out of order" in str(find_damage(data[:end] + data[start:]))


def test_a_table_that_leads_outside_is_damage():
    data = KINDS["progressive"]
    place = data.index(b"\xff\xc4", data.index(b"\xff\xda"))
    broken = overwritten(data, place + 2, b"\xff\xf0")
    assert "leads outside" in str(find_damage(broken))


def test_what_the_check_adds_to_pillow():
    """Of blocks of random bytes that Pillow shows as an image, it finds a good part."""
    rng = np.random.default_rng(0)
    data = encoded(picture(2, size=(60, 45)).resize((640, 480)), "JPEG", quality=90)
    shown = found = 0
    for _ in range(150):
        place = int(rng.integers(data.index(b"\xff\xda") + 20, len(data) - 600))
        broken = overwritten(data, place, rng.bytes(512))
        try:
            Image.open(io.BytesIO(broken)).load()
        except OSError:
            continue
        shown += 1
        found += find_damage(broken) is not None
    assert shown >= 10
    assert found >= 0.2 * shown


def test_zeros_in_the_code_are_not_found():
    """They are code like any other; the module says so."""
    data = KINDS["baseline"]
    assert find_damage(overwritten(data, inside(data), bytes(20))) is None


@given(st.binary(max_size=60), st.sampled_from(sorted(KINDS)), st.floats(0, 1))
def test_whatever_is_overwritten_it_comes_to_an_end(new, kind, where):
    data = KINDS[kind]
    find_damage(overwritten(data, round(where * len(data)), new))
    find_damage(new)
