"""Moved copies: of the training images alone, and nobody but a training sees them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageChops

from pipeline.data import pack as packing
from pipeline.data.pack import Packed, pack
from pipeline.data.shifts import DIRECTIONS, moved
from tests.packing import augment_params, make_images, make_workspace


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path, make_images(24, side=16))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("down", "right"), [(0, 2), (-1, 0), (3, -2), (0, 0)])
def test_images_move_by_whole_pixels_and_the_border_is_mirrored(channels, down, right):
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 11, channels)).astype(np.uint8)
    result = moved(images, down, right)
    for image, changed in zip(images, result, strict=True):
        padded = np.pad(image, [(3, 3), (3, 3), (0, 0)], mode="symmetric")
        expected = padded[3 - down : 12 - down, 3 - right : 14 - right]
        np.testing.assert_array_equal(changed, expected)


def test_the_inside_is_where_pillow_would_move_it():
    (image,) = make_images(1)
    result = moved(np.asarray(image)[None, ..., None], *DIRECTIONS["down"])[0, ..., 0]
    expected = np.asarray(ImageChops.offset(image, 0, 1))
    np.testing.assert_array_equal(result[1:], expected[1:])


@pytest.mark.parametrize("chunk", [1, 32 * 2**20])
def test_copies_come_last_and_are_those_of_the_training_images(workspace, monkeypatch, chunk):
    monkeypatch.setattr(packing, "_CHUNK_BYTES", chunk)
    pack(workspace, augment_params(shifts=2))
    packed = Packed.load(workspace.packed, copies=True)
    train = Packed.load(workspace.packed).rows("train")
    assert len(packed.index) == len(packed.images) == 24 + 4 * len(train)
    copies = packed.index.iloc[24:]
    originals = pd.concat([packed.index.iloc[train]] * 4)
    same = ["file_name", "label", "target", "weight", "split", "camera"]
    assert (copies[same].to_numpy() == originals[same].to_numpy()).all()
    for turn, (down, right) in enumerate(DIRECTIONS.values()):
        rows = slice(24 + turn * len(train), 24 + (turn + 1) * len(train))
        expected = moved(np.asarray(packed.images[train]), 2 * down, 2 * right)
        np.testing.assert_array_equal(packed.images[rows], expected)


def test_a_copy_has_a_key_of_its_own_and_the_originals_keep_theirs(workspace):
    pack(workspace, augment_params())
    plain = Packed.load(workspace.packed, copies=True)
    pack(workspace, augment_params(shifts=1))
    packed = Packed.load(workspace.packed, copies=True)
    assert packed.index["image_id"].is_unique
    keys = packed.keys()
    assert len(set(keys)) == len(keys)
    np.testing.assert_array_equal(keys[:24], plain.keys())
    pack(workspace, augment_params(shifts=2))
    assert not set(Packed.load(workspace.packed, copies=True).keys()[24:]) & set(keys)


def test_whoever_does_not_train_sees_the_images_alone(workspace):
    pack(workspace, augment_params())
    plain = Packed.load(workspace.packed)
    assert len(Packed.load(workspace.packed, copies=True).index) == 24
    pack(workspace, augment_params(shifts=1))
    packed, training = (Packed.load(workspace.packed, copies=c) for c in (False, True))
    pd.testing.assert_frame_equal(packed.index, plain.index)
    np.testing.assert_array_equal(packed.images, plain.images)
    assert (packed.mean, packed.std) == (plain.mean, plain.std)
    assert packed.digest == training.digest != plain.digest
    for split in ("val", "test"):
        np.testing.assert_array_equal(training.rows(split), plain.rows(split))
    assert len(training.rows("train")) == 5 * len(plain.rows("train"))


def test_no_copy_shows_an_image_of_another_split(tmp_path):
    """Each image is of one grey, so that its copies tell whose they are."""
    images = [Image.new("L", (16, 16), 10 * i) for i in range(24)]
    workspace = make_workspace(tmp_path, images)
    pack(workspace, augment_params(shifts=3))
    packed = Packed.load(workspace.packed, copies=True)
    greys = {
        split: set(packed.images[packed.rows(split)].flatten().tolist())
        for split in ("train", "val", "test")
    }
    assert not greys["train"] & (greys["val"] | greys["test"])
