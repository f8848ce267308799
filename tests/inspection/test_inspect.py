"""The commands ``inspect`` and ``models``, as a user runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import ConfigurationError
from pipeline.inspection.catalogue import catalogue, measure, source_of
from pipeline.inspection.figure import MAX_COLUMNS, columns
from pipeline.inspection.inspect import inspect
from pipeline.inspection.layers import anatomy, side_formula
from pipeline.inspection.specimen import Subject, blank
from pipeline.inspection.wording import short
from pipeline.params import Params, load
from pipeline.vision.models import MODELS
from pipeline.workspace import Workspace

UNSET = {"image_size": None, "channels": None, "num_classes": None}


@pytest.fixture
def project(tmp_path: Path, params_text: str) -> tuple[Workspace, Params]:
    (tmp_path / "params.yaml").write_text(params_text, encoding="utf-8")
    workspace = Workspace(tmp_path)
    return workspace, load(workspace.params)


def test_the_layers_of_a_hand_worked_network(capsys):
    inspect("nielsen", None, json=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["image_size"], shown["channels"], shown["num_classes"]) == (28, 1, 10)
    layers = [layer for layer in shown["layers"] if layer["name"] != "image"]
    assert [layer["output"] for layer in layers] == [
        *([20, 24, 24], [20, 12, 12], [40, 8, 8], [40, 4, 4], [100], [10]),
    ]
    assert [layer["field"] for layer in layers[:4]] == [[5, 5], [6, 6], [14, 14], [16, 16]]
    assert [layer["jump"] for layer in layers[:4]] == [[1, 1], [2, 2], [2, 2], [4, 4]]
    assert [layer["parameters"] for layer in layers] == [520, 0, 20_040, 0, 64_100, 1_010]
    assert [layer["multiply_adds"] for layer in layers] == [
        *(24**2 * 20 * 25, 0, 8**2 * 40 * 20 * 25, 0, 640 * 100, 100 * 10),
    ]
    assert layers[0]["activation_bytes"] == 20 * 24 * 24 * 4  # ReLU writes into it
    assert shown["parameters"] == 85_670
    assert shown["receptive_field"] == "16"


def test_the_table_shows_how_a_side_follows(capsys):
    inspect("lenet5", None)
    shown = capsys.readouterr().out
    assert "lenet5, 28 px, 1 channel, 10 classes" in shown
    assert "(28 + 2·2 − 5)/1 + 1" in shown
    assert "61,706" in shown
    assert "whole image" in shown


def test_a_variant_is_shown_with_its_own_settings(project, capsys):
    inspect("small_cnn", project, json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["model"] == project[1].variants["small_cnn"].model
    assert shown["image_size"] == 96


def test_a_network_called_like_a_variant_can_be_asked_for(project, capsys):
    inspect("small_cnn", project, as_model=True, architecture="{width: 8}", json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["image_size"] == 28
    assert shown["architecture"] == {"width": 8}


def test_a_name_that_is_none_gets_the_nearest(project):
    with pytest.raises(ConfigurationError, match="did you mean 'regnet'"):
        inspect("regnett", project)
    with pytest.raises(ConfigurationError, match="did you mean 'torchvision:resnet18'"):
        inspect("torchvision:resnt18", None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 4}, "small_cnn needs images of at least 16 px"),
        ({"architecture": "{widht: 8}"}, "did you mean 'width'"),
        ({"architecture": "8"}, "expected arguments of the network as YAML"),
        ({"architecture": "{a: ["}, "expected arguments of the network as YAML"),
        ({"figure": Path("drawing.gif")}, r"end the name in \.svg or \.png"),
    ],
)
def test_what_cannot_be_shown_is_one_message(changes, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        inspect("small_cnn", None, **changes)
    assert "\n" not in str(caught.value)


def test_the_drawing_is_a_picture_and_the_same_again(tmp_path, capsys):
    for name in ("first.svg", "second.svg", "first.png"):
        inspect("lenet5", None, figure=tmp_path / name)
    first, second = (tmp_path / f"{name}.svg" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    text = re.sub(r"<[^>]*>", "", first.read_text(encoding="utf-8"))
    assert "16 × 10 × 10" in text
    assert "whole image" in text
    with Image.open(tmp_path / "first.png") as picture:
        assert min(picture.size) > 500


@pytest.mark.parametrize(
    "model", ["small_cnn", "torchvision:densenet121", "timm:vit_tiny_patch16_224"]
)
def test_deep_networks_are_drawn_by_the_size_of_their_maps(model):
    size = 28 if model == "small_cnn" else 224
    found = anatomy(blank(Subject(model, size, 3, 10)), channels=3, image_size=size)
    shown = columns(found)
    assert 2 <= len(shown) <= MAX_COLUMNS
    sides = [column.shown.shape[1] for column in shown if len(column.shown.shape) == 3]
    assert sides == sorted(sides, reverse=True)


def test_division_with_a_rest_is_marked():
    found = anatomy(blank(Subject("torchvision:resnet18", 224, 3, 10)), channels=3, image_size=224)
    assert side_formula(found.layers[1]) == "⌊(224 + 2·3 − 7)/2⌋ + 1"
    rounded_up = anatomy(
        blank(Subject("torchvision:googlenet", 224, 3, 10)), channels=3, image_size=224
    )
    pooling = next(layer for layer in rounded_up.layers if layer.name == "maxpool1")
    assert side_formula(pooling) == "⌈(112 − 3)/2⌉ + 1"


def test_the_list_has_numbers_for_every_own_network(capsys):
    catalogue("", **UNSET, json=True)
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    for name in MODELS:
        entry = entries[name]
        assert entry["problem"] is None, entry["problem"]
        assert entry["parameters"] > 0
        assert entry["multiply_adds"] > 0
        assert entry["receptive_field"] != "–"
        assert any(character.isdigit() for character in entry["source"]), entry["source"]
    assert entries["timm:resnet10t"]["parameters"] is None
    assert len(entries) > 500


def test_a_search_that_leaves_few_has_numbers_of_theirs_too(capsys):
    catalogue("resnet10t", **UNSET, json=True)
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["image_size"] in (176, 224)
    assert 5_000_000 < entry["parameters"] < 6_000_000
    assert entry["source"].startswith("timm 1.")


def test_the_list_can_be_asked_for_other_images():
    small, large = (
        measure("small_cnn", image_size=size, channels=3, num_classes=5) for size in (32, 128)
    )
    assert small.parameters == large.parameters
    assert (small.channels, small.num_classes) == (3, 5)
    assert large.multiply_adds > small.multiply_adds
    assert "at least 16 px" in str(
        measure("small_cnn", image_size=8, channels=1, num_classes=2).problem
    )


def test_a_search_that_finds_nothing_names_the_nearest():
    with pytest.raises(ConfigurationError, match="did you mean 'resnet18'"):
        catalogue("resnt18", **UNSET, json=False)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1_000, "1.00 k"), (61_706, "61.7 k"), (999_600, "1.00 M"),
     (1_814_073_344, "1.81 G"), (2.5e13, "25.0 T")],
)  # fmt: skip
def test_large_numbers_keep_three_digits(count, text):
    assert short(count) == text


def test_every_own_networks_paper_is_found():
    for name in MODELS:
        assert source_of(name) != "own", name
