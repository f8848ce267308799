"""Moved pixels: against a lookup image by image, and exact where pixels move as a whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from pipeline.vision.augmentation import build_policy
from pipeline.vision.geometry import Affine, Crop, Flip
from pipeline.vision.image_ops import warp

SIZE = (12, 16)


def numbers(part, count=6, seed=0):
    return torch.rand(count, part.draws, generator=torch.Generator().manual_seed(seed))


def random_images(count=6, channels=2, size=SIZE):
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(1))


def looked_up(image, inverse):
    """(C, H, W) of the pixel coordinates (x, y, 1) @ ``inverse``, the middle being the origin."""
    height, width = image.shape[1:]
    y, x = np.mgrid[:height, :width]
    points = np.stack([x - (width - 1) / 2, y - (height - 1) / 2, np.ones_like(x)])
    source = np.tensordot(inverse, points.astype(float), axes=1)
    place = [source[1] + (height - 1) / 2, source[0] + (width - 1) / 2]
    return np.stack([map_coordinates(plane, place, order=1, mode="reflect") for plane in image])


def affine_inverse(part, u, size):
    """Of "shear, scale, turn, move" in pixels, by the words of the docstring."""
    turn, right, down, grow, slant = (2 * float(value) - 1 for value in u[:5])
    angle, factor = math.radians(turn * part.rotate), (1 + part.scale) ** grow
    shear = np.array([[1, math.tan(math.radians(slant * part.shear)), 0], [0, 1, 0], [0, 0, 1]])
    cos, sin = math.cos(angle) * factor, math.sin(angle) * factor
    turned = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    move = np.eye(3)
    move[:2, 2] = part.shift * right * size[1], part.shift * down * size[0]
    return np.linalg.inv(move @ turned @ shear)


@settings(max_examples=30, deadline=None)
@given(
    rotate=st.floats(0, 180),
    shift=st.floats(0, 0.5),
    scale=st.floats(0, 1),
    shear=st.floats(0, 45),
    seed=st.integers(0, 100),
)
def test_an_affine_warp_is_what_a_lookup_of_each_image_gives(rotate, shift, scale, shear, seed):
    part = Affine(rotate=rotate, shift=shift, scale=scale, shear=shear)
    images = random_images(3, size=(14, 14))
    u = numbers(part, 3, seed)
    result = part.apply(images, u)
    for image, own, changed in zip(images.numpy(), u, result, strict=True):
        expected = looked_up(image, affine_inverse(part, own, (14, 14)))
        np.testing.assert_allclose(changed, expected, atol=2e-4)


@settings(max_examples=30, deadline=None)
@given(
    cut=st.floats(0, 0.9),
    aspect=st.floats(0, 2),
    padding=st.floats(0, 0.5),
    seed=st.integers(0, 100),
)
def test_a_crop_is_what_a_lookup_of_each_window_gives(cut, aspect, padding, seed):
    part = Crop(padding=padding, cut=cut, aspect=aspect)
    images, u = random_images(), numbers(part, seed=seed)
    result = part.apply(images, u)
    height, width = SIZE
    for image, own, changed in zip(images.numpy(), u.double().numpy(), result, strict=True):
        area, ratio = 1 - cut * own[2], (1 + aspect) ** (2 * own[3] - 1)
        wide, high = min(1, math.sqrt(area * ratio)), min(1, math.sqrt(area / ratio))
        pads = [int(padding * side + 0.5) for side in SIZE]
        down, right = (
            math.floor(np.float32(own[i]) * np.float32(2 * pad + 1)) - pad
            for i, pad in enumerate(pads)
        )
        middle = (
            (2 * own[4] - 1) * (1 - wide) * width / 2 + right,
            (2 * own[5] - 1) * (1 - high) * height / 2 + down,
        )
        inverse = np.array([[wide, 0, middle[0]], [0, high, middle[1]], [0, 0, 1]])
        np.testing.assert_allclose(changed, looked_up(image, inverse), atol=2e-4)


@settings(max_examples=30, deadline=None)
@given(padding=st.floats(0.01, 0.5), seed=st.integers(0, 100))
def test_a_padded_crop_is_cut_out_of_the_mirrored_border_pixel_by_pixel(padding, seed):
    part = Crop(padding=padding)
    images, u = random_images(), numbers(part, seed=seed)
    result = part.apply(images, u)
    pads = [int(padding * side + 0.5) for side in SIZE]
    for image, changed in zip(images.numpy(), result.numpy(), strict=True):
        padded = np.pad(image, [(0, 0), *((pad, pad) for pad in pads)], mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, SIZE, axis=(1, 2))
        assert (windows == changed[:, None, None]).all(axis=(0, 3, 4)).any()


def test_a_padded_crop_takes_every_place_equally_often():
    images = torch.arange(36.0).view(1, 1, 6, 6).expand(4000, 1, 6, 6) / 36
    policy = build_policy({"crop": {"padding": 1 / 6}}, where="augment.policy")
    middle = policy(images, torch.arange(4000), seed=0, epoch=0)[:, 0, 2, 2]
    seen, counts = middle.unique(return_counts=True)
    assert len(seen) == 9
    assert counts.min() > 0.8 * 4000 / 9


@pytest.mark.parametrize("part", [Flip(horizontal=0.5, vertical=0.5), Crop(padding=0.2)])
def test_whole_pixels_and_the_warp_move_alike(part):
    images, u = random_images(32), numbers(part, 32)
    warped = warp(images, part.matrix(u, SIZE))
    torch.testing.assert_close(warped, part.apply(images, u), rtol=0, atol=1e-5)
    assert set(part.apply(images, u).flatten().tolist()) <= set(images.flatten().tolist())


def test_flip_and_padded_crop_together_are_whole_pixels_one_after_the_other():
    images, keys = random_images(32, 3), torch.arange(32)
    flip, crop = {"flip": {"horizontal": 0.5, "vertical": 0.5}}, {"crop": {"padding": 0.2}}
    flipped = build_policy(flip, where="")(images, keys, seed=0, epoch=0)
    expected = build_policy(crop, where="")(flipped, keys, seed=0, epoch=0)
    both = build_policy(flip | crop, where="")(images, keys, seed=0, epoch=0)
    assert torch.equal(both, expected)


def test_flips_are_exact_and_as_frequent_as_asked():
    images, keys = random_images(4000, 1, (3, 3)), torch.arange(4000)
    result = build_policy({"flip": {"horizontal": 0.25}}, where="")(images, keys, seed=0, epoch=0)
    same = (result == images).flatten(1).all(1)
    mirrored = (result == images.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert mirrored.float().mean().item() == pytest.approx(0.25, abs=0.03)
    vertical = build_policy({"flip": {"vertical": 1.0}}, where="")(images, keys, seed=0, epoch=0)
    assert torch.equal(vertical, images.flip(2))


def test_an_image_left_out_of_a_warp_stays_sharp_and_flips_with_the_others():
    images, keys = random_images(200, 1, (8, 8)), torch.arange(200)
    policy = {"flip": {"horizontal": 0.5}, "affine": {"rotate": 90.0, "probability": 0.25}}
    flipped = build_policy({"flip": {"horizontal": 0.5}}, where="")(images, keys, seed=0, epoch=0)
    result = build_policy(policy, where="")(images, keys, seed=0, epoch=0)
    sharp = (result - flipped).abs().flatten(1).amax(1) < 1e-5
    assert sharp.float().mean().item() == pytest.approx(0.75, abs=0.1)


def still(**changed: float) -> torch.Tensor:
    """Random numbers of `Affine` that do nothing, except the given: 0 and 1 are the limits."""
    names = ("rotate", "right", "down", "scale", "shear", "chance")
    return torch.tensor([[changed.get(name, 0.5) for name in names]])


def test_a_quarter_turn_moves_a_known_pixel():
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 0, 2] = 1.0
    turned = Affine(rotate=90).apply(image, still(rotate=1.0))
    torch.testing.assert_close(turned, image.rot90(-1, (2, 3)), rtol=0, atol=1e-5)
    back = Affine(rotate=90).apply(image, still(rotate=0.0))
    torch.testing.assert_close(back, image.rot90(1, (2, 3)), rtol=0, atol=1e-5)


def test_a_shift_moves_a_known_pixel_by_its_share_of_the_side():
    image = torch.zeros(1, 1, 10, 10)
    image[0, 0, 4, 4] = 1.0
    moved = Affine(shift=0.2).apply(image, still(right=1.0, down=0.0))
    expected = torch.zeros_like(image)
    expected[0, 0, 2, 6] = 1.0
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)


def test_shear_slants_rows_and_keeps_their_height():
    image = torch.zeros(1, 1, 17, 17)
    image[..., 8] = 1.0  # an upright line
    slanted = Affine(shear=45).apply(image, still(shear=1.0))[0, 0]
    columns = slanted.argmax(dim=1)[4:13]
    assert columns.diff().abs().tolist() == [1] * 8


def test_on_an_oblong_image_a_turn_keeps_right_angles():
    image = torch.zeros(1, 1, 8, 16)
    image[0, 0, 2, 8:12] = 1.0
    turned = Affine(rotate=90).apply(image, still(rotate=1.0))[0, 0]
    middle = turned[:, 4:12] > 0.9  # what lies beyond is mirrored
    assert middle.sum() == 4
    assert middle.any(dim=0).sum() == 1  # four pixels across are four pixels down


def test_several_movements_are_looked_up_once():
    """The flip comes first: turning a mirrored image, not mirroring a turned one."""
    images, keys = random_images(4, 1, (16, 16)), torch.arange(4)
    policy = {"flip": {"horizontal": 1.0}, "affine": {"rotate": 90.0}}
    result = build_policy(policy, where="")(images, keys, seed=0, epoch=0)
    turn = {"affine": {"rotate": 90.0}}
    expected = build_policy(turn, where="")(images.flip(3), keys, seed=0, epoch=0)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)
