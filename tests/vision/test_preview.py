"""The picture of the policy."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageChops

from pipeline.data.pack import Packed, pack
from pipeline.vision.policies import POLICIES
from pipeline.vision.preview import _one_class_after_another, preview
from tests.packing import augment_params, make_images, make_workspace


def draw(root, *, mode="L", **changes):
    workspace = make_workspace(root, make_images(12, mode=mode))
    params = augment_params(**changes)
    pack(workspace, params)
    preview(workspace, params)
    return workspace, Image.open(workspace.preview)


@pytest.mark.parametrize(("mode", "expected"), [("L", "L"), ("RGB", "RGB")])
def test_the_picture_fits_a_page_and_keeps_the_colours(tmp_path, mode, expected):
    _, picture = draw(tmp_path, mode=mode, preview={"images": 4, "copies": 8})
    assert picture.mode == expected
    assert 1150 < picture.width <= 1200
    assert 400 < picture.height < 700


def test_equal_inputs_give_equal_bytes_without_a_date(tmp_path):
    one, _ = draw(tmp_path / "a")
    other, picture = draw(tmp_path / "b")
    assert one.preview.read_bytes() == other.preview.read_bytes()
    assert picture.info == {}


def test_the_policy_shows(tmp_path):
    plain, _ = draw(tmp_path / "plain", policy={})
    dark, _ = draw(tmp_path / "dark", policy={"erase": {"probability": 1.0, "area": 0.9}})
    assert plain.preview.read_bytes() != dark.preview.read_bytes()


def test_a_named_policy_is_drawn_with_its_name(tmp_path):
    name = "strong"
    workspace, picture = draw(tmp_path / "named", policy=name)
    _, unnamed = draw(tmp_path / "section", policy={k: dict(v) for k, v in POLICIES[name].items()})
    assert picture.size == unnamed.size
    differs = np.asarray(ImageChops.difference(picture, unnamed)).any(axis=1)
    assert differs.any()  # the name in the heading
    assert not differs[64:].any()
    assert workspace.preview.is_file()


def test_mixed_images_are_shown_mixed(tmp_path):
    policy = {"mixup": {"alpha": 8.0, "probability": 1.0}}
    plain, _ = draw(tmp_path / "plain", policy={})
    mixed, _ = draw(tmp_path / "mixed", policy=policy)
    assert plain.preview.read_bytes() != mixed.preview.read_bytes()


def test_classes_take_turns_and_only_training_images_are_shown(tmp_path):
    workspace, _ = draw(tmp_path)
    packed = Packed.load(workspace.packed)
    rows = packed.rows("train")
    chosen = _one_class_after_another(packed.index, rows, 6)
    assert len(set(chosen)) == 6
    assert set(chosen) <= set(rows)
    assert packed.index["target"].iloc[chosen].tolist() == [0, 1, 0, 1, 0, 1]
    assert len(_one_class_after_another(packed.index, rows, 1000)) == len(rows)


def test_a_long_class_name_is_cut_not_drawn_over_the_images(tmp_path):
    workspace = make_workspace(tmp_path, make_images(4))
    params = augment_params()
    pack(workspace, params)
    index = Packed.load(workspace.packed).index.assign(label="a class of a very long name indeed")
    index.to_parquet(workspace.packed / "index.parquet", index=False)
    preview(workspace, params)
    with Image.open(workspace.preview) as picture:
        gap = np.asarray(picture.convert("L"))[80:, 140:154]
    assert (gap == 255).all()
