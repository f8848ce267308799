"""Packing: what is stored is what was there, and nothing is stored by halves."""

from __future__ import annotations

import io
import json
import resource

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.data import pack as packing
from pipeline.data.decode import DecodeError
from pipeline.data.manifest import read_table, to_frame, write_table
from pipeline.data.pack import Packed, decode_image, pack
from pipeline.errors import DataRefused, PipelineError
from tests.packing import CLASSES, augment_params, make_images, make_workspace


def as_bytes(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, **({"format": "PNG"} | options))
    return file.getvalue()


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path, make_images(24))


def edit(workspace, path, **columns):
    table = to_frame(read_table(path))
    write_table(path, pa.Table.from_pandas(table.assign(**columns), preserve_index=False))


def test_images_of_the_stored_size_are_stored_bit_for_bit_in_the_order_of_the_index(tmp_path):
    images = make_images(9, side=16)
    workspace = make_workspace(tmp_path, images)
    pack(workspace, augment_params())
    packed = Packed.load(workspace.packed)
    assert packed.images.dtype == np.uint8
    assert packed.images.shape == (9, 16, 16, 1)
    for stored, image, name in zip(packed.images, images, packed.index["file_name"], strict=True):
        np.testing.assert_array_equal(stored[..., 0], np.asarray(image))
        assert (workspace.data / name).is_file()


def test_the_index_has_targets_weights_splits_and_extra_columns(workspace):
    pack(workspace, augment_params())
    packed = Packed.load(workspace.packed)
    index = packed.index
    assert list(index) == [
        *("image_id", "file_name", "label", "target", "weight", "split", "camera")
    ]
    assert packed.extra_columns == ("camera",)
    assert [CLASSES[target] for target in index["target"]] == list(index["label"])
    assert index["target"].dtype == np.int64
    assert index["weight"].dtype == np.float32
    assert index["file_name"].is_monotonic_increasing
    assert list(packed.rows("val")) == [3, 11, 19]
    every = np.concatenate([packed.rows(split) for split in ("train", "val", "test")])
    assert sorted(every) == list(range(24))


def test_mean_and_std_are_those_of_the_train_pixels_alone(workspace, monkeypatch):
    monkeypatch.setattr(packing, "_CHUNK_BYTES", 5 * 16 * 16)
    pack(workspace, augment_params())
    packed = Packed.load(workspace.packed)
    train = packed.images[packed.rows("train")] / 255
    assert packed.mean == pytest.approx([train.mean()], abs=1e-12)
    assert packed.std == pytest.approx([train.std()], abs=1e-12)
    assert packed.mean != pytest.approx([(packed.images / 255).mean()], abs=1e-6)


def test_equal_data_gives_equal_bytes_however_it_is_chunked(workspace, monkeypatch):
    pack(workspace, augment_params())
    first = {path.name: path.read_bytes() for path in workspace.packed.iterdir()}
    monkeypatch.setattr(packing, "_CHUNK_BYTES", 1)
    pack(workspace, augment_params())
    assert {path.name: path.read_bytes() for path in workspace.packed.iterdir()} == first


def test_the_digest_follows_pixels_and_labels(workspace):
    def digest() -> str:
        pack(workspace, augment_params())
        return Packed.load(workspace.packed).digest

    first = digest()
    edit(workspace, workspace.accepted, weight=0.5)
    assert digest() != first


def test_channels_auto_is_three_as_soon_as_one_image_has_colour(tmp_path):
    grey = make_workspace(tmp_path / "grey", make_images(4))
    mixed = make_workspace(tmp_path / "mixed", [*make_images(4), *make_images(1, mode="RGB")])
    pack(grey, augment_params())
    pack(mixed, augment_params())
    assert Packed.load(grey.packed).channels == 1
    packed = Packed.load(mixed.packed)
    assert packed.channels == len(packed.mean) == len(packed.std) == 3
    assert (packed.images[0] == packed.images[0][..., :1]).all()


def test_asked_for_one_channel_colour_becomes_grey(tmp_path):
    workspace = make_workspace(tmp_path, make_images(4, mode="RGB"))
    pack(workspace, augment_params(channels=1))
    assert Packed.load(workspace.packed).images.shape == (4, 16, 16, 1)


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (33, 33)])
def test_the_whole_image_is_kept_whatever_its_shape(size):
    image = Image.new("L", size, 0)
    width, height = size
    for x in (0, width - width // 4):  # bright left and right borders
        image.paste(255, (x, 0, x + width // 4, height))
    pixels = decode_image(as_bytes(image), channels=1, image_size=16)[..., 0]
    assert pixels.shape == (16, 16)
    assert (pixels[:, 0] > 240).all()
    assert (pixels[:, -1] > 240).all()
    assert (pixels[:, 8] < 15).all()


def test_shrinking_averages_instead_of_skipping_pixels():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    pixels = decode_image(as_bytes(Image.fromarray(stripes)), channels=1, image_size=8)
    assert np.abs(pixels.astype(int) - 127).max() < 12


def test_sixteen_bits_are_scaled_not_clipped():
    values = np.linspace(0, 65535, 16 * 16).astype(np.uint16).reshape(16, 16)
    pixels = decode_image(as_bytes(Image.fromarray(values)), channels=1, image_size=16)
    np.testing.assert_array_equal(pixels[..., 0], values >> 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_transparent_shows_white_paper(mode, channels):
    image = Image.new(mode, (16, 16), (0,) * len(mode))
    pixels = decode_image(as_bytes(image), channels=channels, image_size=16)
    assert (pixels == 255).all()


def test_exif_orientation_is_applied():
    image = Image.new("L", (16, 16), 0)
    image.paste(255, (0, 0, 16, 8))  # bright above
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    pixels = decode_image(as_bytes(image, exif=exif), channels=1, image_size=16)
    assert pixels[12, 8] == 255
    assert pixels[4, 8] == 0


def test_pixels_without_a_range_are_refused():
    image = Image.fromarray(np.ones((8, 8), np.float32))
    with pytest.raises(DecodeError, match="no defined range"):
        decode_image(as_bytes(image, format="TIFF"), channels=1, image_size=8)


@settings(max_examples=30, deadline=None)
@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"]),
    width=st.integers(1, 50),
    height=st.integers(1, 50),
    size=st.integers(8, 40),
    channels=st.sampled_from([1, 3]),
)
def test_any_image_becomes_the_asked_shape(mode, width, height, size, channels):
    data = as_bytes(Image.new(mode, (width, height), 1), format="TIFF")
    pixels = decode_image(data, channels=channels, image_size=size)
    assert pixels.shape == (size, size, channels)
    assert pixels.dtype == np.uint8
    assert (pixels == pixels[0, 0]).all()


def test_keys_are_the_contents_and_copies_are_told_apart(tmp_path):
    image, other = make_images(2)
    workspace = make_workspace(tmp_path, [image, other, image])
    pack(workspace, augment_params())
    packed = Packed.load(workspace.packed)
    keys = packed.keys()
    assert keys.dtype == np.int64
    assert len(set(keys)) == 3
    alone = make_workspace(tmp_path / "alone", [other])
    pack(alone, augment_params())
    assert Packed.load(alone.packed).keys()[0] == keys[1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "gone since it was scanned"),
        (lambda path: path.write_bytes(b"no image"), "changed since it was scanned"),
    ],
)
def test_an_image_that_is_not_what_was_scanned_is_named(workspace, damage, message):
    damage(workspace.data / "images" / "0005.png")
    with pytest.raises(PipelineError, match=message) as error:
        pack(workspace, augment_params())
    assert "0005.png" in str(error.value)
    assert not workspace.packed.exists()
    assert not list(workspace.artifacts.glob(".packed*"))


def test_an_image_that_cannot_be_decoded_any_more_is_named(workspace):
    path = workspace.data / "images" / "0005.png"
    path.write_bytes(path.read_bytes()[:60])
    table = to_frame(read_table(workspace.accepted))
    table.loc[5, "sha256"] = packing.sha256_file(path)
    edit(workspace, workspace.accepted, sha256=table["sha256"])
    with pytest.raises(PipelineError, match=r"0005\.png: cannot be packed"):
        pack(workspace, augment_params())


def test_a_full_disk_leaves_the_old_pack_as_it_was(workspace):
    pack(workspace, augment_params())
    before = Packed.load(workspace.packed).digest
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # room for the index alone
    try:
        with pytest.raises(OSError, match="File too large"):
            pack(workspace, augment_params(image_size=64))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Packed.load(workspace.packed).digest == before
    assert [path.name for path in workspace.artifacts.glob("*packed*")] == ["packed"]


def test_without_training_images_there_is_nothing_to_pack(workspace):
    edit(workspace, workspace.split, split="test")
    with pytest.raises(DataRefused, match="no image is in the split 'train'"):
        pack(workspace, augment_params())


def test_an_unknown_label_is_refused_by_name(workspace):
    edit(workspace, workspace.accepted, label="ring")
    with pytest.raises(DataRefused, match=r"'ring'.*bar, disc"):
        pack(workspace, augment_params())


def test_an_image_without_a_split_is_named(workspace):
    split = to_frame(read_table(workspace.split)).iloc[1:]
    write_table(workspace.split, pa.Table.from_pandas(split, preserve_index=False))
    with pytest.raises(PipelineError, match=r"no split for 1 accepted images.*0000\.png"):
        pack(workspace, augment_params())


def test_an_image_that_split_left_out_is_not_packed(workspace):
    split = to_frame(read_table(workspace.split))
    left_out = split["file_name"].iloc[0]
    split.loc[0, "split"] = None
    write_table(workspace.split, pa.Table.from_pandas(split, preserve_index=False))
    pack(workspace, augment_params())
    packed = Packed.load(workspace.packed)
    assert set(split["file_name"]) - set(packed.index["file_name"]) == {left_out}
    assert packed.index["split"].notna().all()


def test_the_index_has_the_groups_only_where_images_were_split_by_them(workspace):
    groups = [None if i < 4 else f"module {i // 4}" for i in range(24)]
    edit(workspace, workspace.accepted, group=groups)
    pack(workspace, augment_params())
    assert "group" not in Packed.load(workspace.packed).index
    edit(workspace, workspace.split, group=groups)
    pack(workspace, augment_params(shifts=1))
    packed = Packed.load(workspace.packed, copies=True)
    assert packed.index["group"][:4].isna().all()
    assert packed.index["group"][4:24].tolist() == groups[4:]
    assert packed.extra_columns == ("camera",)


def test_an_extra_column_that_would_hide_one_of_ours_is_refused(workspace):
    edit(workspace, workspace.accepted, target="x")
    with pytest.raises(DataRefused, match="cannot be called 'target'"):
        pack(workspace, augment_params())


def test_files_that_do_not_belong_together_are_noticed(workspace):
    pack(workspace, augment_params())
    index = pd.read_parquet(workspace.packed / "index.parquet").iloc[1:]
    index.to_parquet(workspace.packed / "index.parquet")
    with pytest.raises(PipelineError, match="its index says"):
        Packed.load(workspace.packed)


def test_a_truncated_array_is_noticed(workspace):
    pack(workspace, augment_params())
    path = workspace.packed / "images.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PipelineError, match=r"images\.npy: damaged or cut short"):
        Packed.load(workspace.packed)


def test_the_card_is_plain_json_with_the_promised_keys(workspace):
    pack(workspace, augment_params())
    card = json.loads((workspace.packed / "packed.json").read_text())
    assert set(card) == {
        *("image_size", "channels", "classes", "mean", "std"),
        *("images", "copies", "extra_columns", "digest"),
    }
    assert card["images"] == 24
