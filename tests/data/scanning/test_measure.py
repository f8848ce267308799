"""The measures of one file: values that are known, and files that are none."""

from __future__ import annotations

import functools
import io
import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.scanning.duplicates import exact_clusters
from pipeline.data.scanning.measure import UNCHANGED, Limits, Measures, measure_pixels, open_file
from pipeline.data.scanning.memory import stored_bytes
from pipeline.data.scanning.pixel_measures import (
    lit,
    pixel_hash,
    sampled_rows,
    sharpness,
    shrink,
    to_grey,
    tones,
)
from tests.data.pictures import seen
from tests.images import encoded, picture

LIMITS = Limits(max_bytes=100_000, max_pixels=1_000_000)


PIXEL_HASH = "61fce059bccd4964816f5b7b5e3937d8"


def measure_file(
    folder: Path, file_name: str, limits: Limits, known: str | None = None
) -> Measures:
    opened = open_file(folder, file_name, limits, known)
    measure_pixels([opened])
    return opened.measures


def tone(pixels: np.ndarray) -> tuple[float, float, float]:
    return tones([sampled_rows(pixels)])[0]


def sharp(pixels: np.ndarray) -> float:
    return sharpness(sampled_rows(pixels))


def measured(folder: Path, data: bytes) -> Measures:
    (folder / "a.png").write_bytes(data)
    return measure_file(folder, "a.png", Limits(max_bytes=10**7, max_pixels=10**6))


def test_measures_of_pictures_whose_values_are_known():
    flat = Image.new("L", (50, 40), 51)
    assert tone(np.asarray(flat)) == (0.2, 0.0, 0.0)
    assert sharp(np.asarray(flat)) == 0.0
    assert seen(flat).phash == "0" * 16
    halves = Image.new("L", (50, 40), 0)
    halves.paste(255, (25, 0, 50, 40))
    assert tone(np.asarray(halves)) == (0.5, 0.5, 1.0)


def test_tone_of_a_large_image_needs_only_some_rows():
    ramp = np.tile(np.linspace(0, 250, 1000).astype(np.uint8)[:, None], (1, 700))
    brightness, contrast, entropy = tone(ramp)
    assert brightness == pytest.approx(ramp.mean() / 255, abs=0.02)
    assert contrast == pytest.approx(ramp.std() / 255, abs=0.02)
    assert entropy > 4


def test_sharpness_is_the_variance_of_the_laplacian():
    pixels = np.asarray(picture(3, size=(31, 17))).astype(int)
    laplacian = (
        pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:]
        - 4 * pixels[1:-1, 1:-1]
    )  # fmt: skip
    assert sharp(np.asarray(picture(3, size=(31, 17)))) == pytest.approx(laplacian.var(), rel=1e-12)


def test_sharpness_of_a_large_image_needs_only_some_rows():
    small = np.asarray(picture(3, size=(200, 200)))
    large = np.tile(small, (5, 5))
    assert sharp(large) == pytest.approx(sharp(small), rel=0.05)
    blurred = Image.fromarray(large).resize((250, 250)).resize((1000, 1000))
    assert sharp(np.asarray(blurred)) < 0.1 * sharp(large)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 2), (3, 3), (70_000, 3), (3, 70_000)])
def test_images_of_any_shape_are_measured(tmp_path, size):
    row = measured(tmp_path, encoded(picture(1, size=size)))
    assert (row.status, row.width, row.height) == ("ok", *size)
    assert row.sharpness is not None
    assert row.sharpness >= 0.0


def test_a_perceptual_hash_changes_little_when_an_image_is_compressed_again():
    smooth = [
        picture(seed, size=(8, 8)).resize((200, 160), Image.Resampling.BICUBIC) for seed in range(8)
    ]
    for image, other in itertools.pairwise(smooth):
        again = Image.open(io.BytesIO(encoded(image.resize((150, 120)), "JPEG", quality=60)))
        assert _distance(image, again) <= 6
        assert _distance(image, other) >= 16


def _distance(first: Image.Image, second: Image.Image) -> int:
    hashes = (int(seen(image).phash, 16) for image in (first, second))
    return functools.reduce(lambda a, b: a ^ b, hashes).bit_count()


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "I", "F", "YCbCr"])
def test_every_mode_has_a_grey_version(mode):
    assert (
        to_grey(picture(mode="RGB").convert("L" if mode in "IF" else "RGB").convert(mode)).mode
        == "L"
    )


def test_sixteen_bits_keep_their_range():
    image = Image.fromarray(np.array([[0, 32_768, 65_535]], dtype=np.uint16))
    assert np.asarray(to_grey(image)).tolist() == [[0, 128, 255]]
    assert np.asarray(to_grey(image.convert("I"))).tolist() == [[0, 128, 255]]


def test_a_palette_counts_by_its_colours(tmp_path):
    pixels = np.array([[0, 1], [1, 0]], dtype=np.uint8)
    for name, order in (("a.png", (0, 1)), ("b.png", (1, 0))):
        image = Image.fromarray(pixels if order == (0, 1) else 1 - pixels)
        image = image.convert("P")
        image.putpalette([c for i in order for c in ((255, 0, 0), (0, 0, 255))[i]])
        image.save(tmp_path / name)
    first, second = (measure_file(tmp_path, name, LIMITS) for name in ("a.png", "b.png"))
    assert first.pixel_hash == second.pixel_hash


SHAPES = [(1, 1), (7, 3), (40, 32), (256, 256), (300, 300), (1500, 1100)]


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA"])
def test_any_one_changed_pixel_changes_the_pixel_hash(size, mode):
    image = picture(1, mode=mode, size=size)
    before = pixel_hash(image)
    assert before == pixel_hash(image.copy())
    rng = np.random.default_rng(0)
    for x, y in [(0, 0), (size[0] - 1, size[1] - 1), *rng.integers(0, size, (20, 2)).tolist()]:
        changed = image.copy()
        value = image.getpixel((x, y))
        changed.putpixel(
            (x, y), (value[0] ^ 128, *value[1:]) if isinstance(value, tuple) else value ^ 1
        )
        if changed.tobytes() != image.tobytes():
            assert pixel_hash(changed) != before


def test_size_and_mode_are_part_of_the_pixel_hash():
    flat = [Image.new("L", (8, 2)), Image.new("L", (2, 8)), Image.new("L", (4, 4))]
    flat += [Image.new("RGB", (4, 4)), Image.new("1", (4, 4)), Image.new("L", (4, 5))]
    assert len({pixel_hash(image) for image in flat}) == len(flat)


def test_the_byte_without_a_meaning_is_no_part_of_the_pixel_hash():
    image = picture(2, mode="RGB", size=(60, 40))
    other = np.dstack([np.asarray(image), np.full((40, 60), 7, np.uint8)])
    padded = Image.frombytes("RGB", (60, 40), other.tobytes(), "raw", "RGBX")
    assert set(stored_bytes(padded)[..., 3].ravel().tolist()) == {7}
    assert padded.tobytes() == image.tobytes()
    assert pixel_hash(padded) == pixel_hash(image)


@pytest.mark.parametrize("size", [(1, 1), (300, 300), (640, 480), (161, 700), (90, 6000)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_shrunk_image_is_the_mean_of_its_parts(mode, size):
    image = picture(9, mode=mode, size=size)
    small, extent = shrink(lit(image))
    looked_at = np.asarray(image.convert("L"))[:: 2 if size[1] >= 320 else 1]
    factors = round(size[0] / extent[0]), round(len(looked_at) / extent[1])
    expected = np.asarray(Image.fromarray(looked_at).reduce(factors)).astype(int)
    assert np.abs(np.asarray(small).astype(int) - expected).max() <= 1
    assert min(small.size) >= min(80, *size)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_seen_as_their_grey_version(mode):
    image = picture(10, mode=mode, size=(200, 150))
    grey = to_grey(image)
    assert np.array_equal(sampled_rows(lit(image)), sampled_rows(lit(grey)))


def test_the_pixel_hash_is_the_same_on_every_machine():
    assert pixel_hash(picture(1)) == PIXEL_HASH


def test_what_comes_out_does_not_depend_on_the_group(tmp_path):
    files = {
        "a.png": encoded(picture(1, size=(300, 300))),
        "b.png": encoded(picture(2, mode="RGB")),
        "c.png": b"text",
        "d.png": encoded(picture(3, mode="P")),
        "e.png": encoded(picture(4, size=(2, 2))),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    group = [open_file(tmp_path, name, LIMITS) for name in files]
    measure_pixels(group)
    alone = [measure_file(tmp_path, name, LIMITS) for name in files]
    assert [opened.measures for opened in group] == alone


def test_an_image_of_a_known_content_is_not_decoded(tmp_path):
    row = measured(tmp_path, encoded(picture()))
    again = measure_file(tmp_path, "a.png", LIMITS, row.sha256)
    assert (again.status, again.sha256, again.width) == (UNCHANGED, row.sha256, None)
    assert measure_file(tmp_path, "a.png", LIMITS, "0" * 64).status == "ok"


def test_a_file_that_was_just_written_is_not_recognised_by_its_times(tmp_path):
    assert measured(tmp_path, encoded(picture())).inode == 0
    path = tmp_path / "a.png"
    os.utime(path, (1, 1))  # ctime is now, and nobody can set it back
    assert measure_file(tmp_path, "a.png", LIMITS).inode == 0


def test_a_file_at_rest_has_a_stamp(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture()))
    later = time.time_ns() + 5 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    row = measure_file(tmp_path, "a.png", LIMITS)
    status = path.stat()
    assert (row.mtime_ns, row.ctime_ns, row.inode) == (
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
    )


def test_what_may_come_out_otherwise_the_next_time_has_no_stamp(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pipeline.data.scanning.measure.pixel_hash", full)
    row = measured(tmp_path, encoded(picture()))
    assert (row.status, row.inode, row.phash, row.fingerprint) == ("too_large", None, None, None)


def test_a_folder_under_an_images_name_is_no_image(tmp_path):
    (tmp_path / "a.png").mkdir()
    assert measure_file(tmp_path, "a.png", LIMITS).status == "unreadable"


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["a", "b", "c", None])))
def test_clusters_are_equal_exactly_where_hashes_are(hashes):
    clusters = exact_clusters(hashes)
    for i, first in enumerate(hashes):
        assert (clusters[i] == -1) == (first is None)
        for j, second in enumerate(hashes):
            if first is not None and second is not None:
                assert (clusters[i] == clusters[j]) == (first == second)


def test_unreadable_permissions_are_a_status(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    (tmp_path / "a.png").chmod(0)
    assert measure_file(tmp_path, "a.png", LIMITS).status == "unreadable"
