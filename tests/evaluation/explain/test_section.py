"""The report's section: what it shows, what it costs, and that nothing stops it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.evaluation.explain import METHODS, pictures
from pipeline.evaluation.explain.faithfulness import REFERENCES
from pipeline.evaluation.explain.section import NEIGHBOURS, STRONGEST, find, some_cases
from pipeline.evaluation.page import render_page
from pipeline.evaluation.section import Evaluated
from pipeline.params import ExplainParams
from tests.evaluation.explain.networks import SMALL_SWIN, Dense, of_library
from tests.evaluation.synthetic import QUICK, make_evaluated, make_params


def evaluated(folder, *, classes: int = 2, channels: int = 1, **explain) -> Evaluated:
    params = make_params(folder, explain=QUICK["explain"] | explain)
    return make_evaluated(params, classes=classes, channels=channels)


def shown(found) -> str:
    return render_page("sections/explanations.html.jinja", found=found.values)


def decoded(uri: str) -> np.ndarray:
    import base64
    import io

    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_params_know_the_methods():
    (names,) = {
        get_args(each) for each in get_args(ExplainParams.model_fields["methods"].annotation)[:1]
    }
    assert set(names) == set(METHODS)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_section_explains_right_and_wrong_images_and_checks_the_maps(tmp_path, channels):
    subject = evaluated(tmp_path, channels=channels, methods=["grad_cam", "integrated_gradients"])
    found = find(subject)
    cases = found.values["cases"]
    assert sorted(case.truth == case.predicted for case in cases) == [False, False, True, True]
    for case in cases:
        assert [title for title, _ in case.maps] == ["Grad-CAM", "Integrated gradients"]
        assert len(case.nearest) == NEIGHBOURS
    checked = found.values["checked"]
    assert len(checked) == 2 + len(REFERENCES)
    assert all(0 <= value <= 1 for each in checked for value in each.deletion.values())
    assert [each.similarity is None for each in checked] == [False, False, True, True]
    assert found.values["gap"] < 0.5
    assert len(found.values["units"]) == 2
    assert all(len(unit.strongest) == STRONGEST for unit in found.values["units"])
    assert [each.name for each in found.values["classes"]] == list(subject.card.classes)
    text = shown(found)
    assert text.count("<img") == text.count('alt="') - text.count('alt=""')
    assert "similarity" in json.dumps(found.numbers, allow_nan=False)


def test_the_same_variant_gives_the_same_section(tmp_path):
    subject = evaluated(tmp_path)
    assert shown(find(subject)) == shown(find(subject))


def test_names_are_text_never_markup(tmp_path):
    assert "<b>ring" not in shown(find(evaluated(tmp_path, classes=5, images=8, units=5)))


@pytest.mark.parametrize(
    "explain",
    [{"images": 0}, {"methods": []}, {"units": 0}, {"examples": 0}, {"steps": 0}, {"images": 1}],
)
def test_every_part_can_be_left_out(tmp_path, explain):
    assert "<p" in shown(find(evaluated(tmp_path, **explain)))


def test_a_method_that_does_not_apply_is_named_with_the_reason(tmp_path):
    subject = evaluated(tmp_path, methods=["guided_backprop", "grad_cam", "saliency"])
    network = Dense().eval().to(subject.device)
    network.hidden = torch.nn.Linear(16 * 16, 10).to(subject.device)
    network.head = torch.nn.Linear(10, 2).to(subject.device)
    found = find(replace(subject, classifier=network))
    assert [title for title, _ in found.values["refused"]] == ["Grad-CAM"]
    assert "Grad-CAM is not shown: Grad-CAM weights the feature maps" in shown(found)
    assert found.values["kernels"] is None
    assert found.values["units"] == []


def test_units_of_a_network_whose_maps_lie_channels_last_are_its_channels(tmp_path):
    subject = evaluated(tmp_path, channels=3, methods=[], steps=1)
    model = "timm:swin_tiny_patch4_window7_224"
    network = of_library(model, SMALL_SWIN).to(subject.device)
    card = replace(subject.card, model=model, image_size=64)
    found = find(replace(subject, classifier=network, card=card))
    assert found.values["maps"][0] | {"picture": ""} == {
        "layer": "net.patch_embed.proj",
        "picture": "",
        "shown": 8,
        "count": 8,
        "size": "16 × 16",
    }
    assert found.values["layer"] == ("net.norm", (64, 2, 2))
    assert found.values["units"][-1].name == "63"


def test_cases_are_half_mistakes_and_do_not_depend_on_other_images(tmp_path):
    subject = evaluated(tmp_path)
    chosen = some_cases(subject, 6)
    assert subject.sample.correct[chosen].tolist() == [False] * 3 + [True] * 3
    assert len(set(chosen.tolist())) == 6
    assert set(some_cases(subject, 4)) <= set(chosen)
    assert len(some_cases(subject, 10_000)) <= len(subject.sample)


def test_the_map_of_colours_rises_evenly_in_lightness():
    ramp = torch.linspace(0, 1, 120).expand(1, 8, 120)
    pixels = decoded(pictures.heat(ramp))[0] / 255
    linear = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    lightness = 116 * np.cbrt(luminance) - 16  # CIE L*, near enough where it is not dark
    steps = np.diff(lightness[10:])
    assert (steps > -0.3).all()
    assert lightness[-1] - lightness[0] > 65


def test_a_map_is_scaled_by_its_own_values_and_dark_where_it_is_negative():
    values = torch.zeros(1, 10, 10)
    values[0, 0, :5], values[0, 1] = 7.0, -3.0
    for scale in (1.0, 1e-6):
        pixels = decoded(pictures.heat(scale * values))
        assert pixels[0, 0].sum() > 2.5 * pixels[5, 5].sum()
        assert (pixels[1] == pixels[5]).all()
    assert decoded(pictures.heat(torch.zeros(1, 4, 4))).std(axis=(0, 1)).max() == 0


def test_kernels_show_their_sign_around_middle_grey():
    weights = torch.zeros(3, 1, 3, 3)
    weights[0, 0, 0, 0], weights[2, 0, 2, 2] = 2.0, -1.0
    sheet = decoded(pictures.kernels(weights))
    side = 3 * pictures.KERNEL_SCALE
    assert sheet.shape == (side, 3 * side + 2 * 2, 3)
    assert sheet[0, 0].tolist() == [255] * 3
    assert sheet[-1, -1].tolist() == [64] * 3
    assert sheet[side // 2, side // 2].tolist() == [128] * 3


def test_large_pictures_are_shown_smaller():
    photograph = np.zeros((400, 300, 3), np.uint8)
    assert max(decoded(pictures.photograph(photograph)).shape) == pictures.MAX_SIDE
    assert max(decoded(pictures.heat(torch.rand(1, 300, 300))).shape) == pictures.MAX_SIDE
