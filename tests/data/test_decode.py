"""Decoding: what comes out of good files, and that no bad one brings anything but its reason."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pipeline.data.decode import FORMATS, DecodeError, decode, open_image
from tests.images import bomb, encoded, picture, with_orientation

LOSSLESS = ("PNG", "BMP", "TIFF", "PPM")


@pytest.mark.parametrize("file_format", LOSSLESS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pixels_of_lossless_formats_come_out_as_they_went_in(file_format, mode):
    image = picture(mode=mode)
    decoded = decode(encoded(image, file_format), max_pixels=10_000)
    assert (decoded.format, decoded.image.mode, decoded.frames) == (file_format, mode, 1)
    assert np.array_equal(np.asarray(decoded.image), np.asarray(image))


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "I;16"])
def test_the_stored_mode_is_kept(mode):
    source = Image.new("I;16", (20, 10), 40_000) if mode == "I;16" else picture(mode=mode)
    assert open_image(encoded(source)).mode == mode


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(file_format, orientation):
    dark, bright = 20, 230
    image = Image.new("RGB", (48, 32), (dark,) * 3)
    image.paste((bright,) * 3, (0, 0, 16, 16))  # one bright corner tells all eight apart
    data = with_orientation(image, orientation, file_format)
    decoded = decode(data, max_pixels=10_000)
    tagged = image.copy()
    tagged.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(tagged)
    assert decoded.exif_orientation == orientation
    assert decoded.image.size == expected.size
    difference = np.asarray(decoded.image, dtype=int) - np.asarray(expected, dtype=int)
    assert np.abs(difference).mean() < 8  # JPEG and WebP smear the edge of the corner


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_cost_the_image():
    data = encoded(picture(mode="RGB"), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff junk")
    assert decode(data, max_pixels=10_000).exif_orientation is None


def test_frames_of_an_animation_are_counted():
    images = [picture(seed, mode="P") for seed in range(3)]
    data = encoded(images[0], "GIF", save_all=True, append_images=images[1:])
    assert decode(data, max_pixels=10_000).frames == 3


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", "empty"),
        (b"\0" * 300, "unreadable"),
        (b"label,file\ncat,1.png\n", "unreadable"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unreadable"),
        (bomb(), "too_large"),
        (bomb(8_000, 8_000), "too_large"),
        (bomb(20_000, 8_000), "too_large"),
    ],
    ids=["empty", "zeros", "text", "postscript", "bomb", "above_cap", "above_cap_and_warning"],
)
def test_what_is_no_usable_image_has_its_status(data, status):
    with pytest.raises(DecodeError) as caught:
        open_image(data)
    assert caught.value.status == status
    assert caught.value.reason == str(caught.value)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "BMP", "WEBP", "GIF", "PPM"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_cut_short_is_truncated(file_format, share):
    data = encoded(
        picture(size=(200, 150), mode="P" if file_format == "GIF" else "RGB"), file_format
    )
    with pytest.raises(DecodeError) as caught:
        open_image(data[: int(len(data) * share)])
    assert caught.value.status == "truncated"


def test_a_damaged_stream_is_unreadable():
    data = bytearray(encoded(picture(size=(200, 150))))
    start = data.index(b"IDAT") + 4
    data[start : start + 200] = bytes(200)
    with pytest.raises(DecodeError) as caught:
        open_image(bytes(data))
    assert caught.value.status == "unreadable"


def test_the_cap_is_exact():
    data = encoded(picture(size=(40, 25)))
    assert open_image(data, max_pixels=1000).size == (40, 25)
    with pytest.raises(DecodeError, match="40 × 25 pixels, above 999"):
        open_image(data, max_pixels=999)


def test_the_error_travels_between_processes():
    error = pickle.loads(pickle.dumps(DecodeError("truncated", "cut short")))  # noqa: S301
    assert (error.status, error.reason) == ("truncated", "cut short")


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=100, deadline=None)
@given(
    file_format=st.sampled_from(FORMATS),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=12)), max_size=4),
    keep=st.floats(0.1, 1),
)
def test_damage_of_any_kind_ends_in_an_image_or_a_decode_error(file_format, cuts, keep):
    data = bytearray(encoded(picture(mode="P" if file_format == "GIF" else "RGB"), file_format))
    for place, junk in cuts:
        start = int(place * len(data))
        data[start : start + len(junk)] = junk
    try:
        image = open_image(bytes(data[: int(keep * len(data))]), max_pixels=10_000)
    except DecodeError as error:
        assert error.reason
    else:
        assert image.width * image.height <= 10_000
