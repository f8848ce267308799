from __future__ import annotations

import pytest
import torch

from pipeline.evaluation.robustness.corruption import Randomness
from pipeline.evaluation.robustness.invariance import INVARIANCES, find
from tests.evaluation.robustness.test_corruptions import DEVICE, keys, photographs
from tests.evaluation.synthetic import make_evaluated, make_params

UNCHANGED = {"scale": 1.0}
"""The value that changes nothing, where it is not 0."""


def changed(name: str, value: float, images: torch.Tensor) -> torch.Tensor:
    numbers = Randomness(keys(len(images)), 0, 0, name)
    return INVARIANCES[name].apply(images, numbers, value)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", INVARIANCES)
def test_one_value_changes_nothing_and_the_others_do(name, channels):
    images = photographs(3, 32, channels)
    nothing = UNCHANGED.get(name, 0.0)
    assert nothing in INVARIANCES[name].values
    for value in INVARIANCES[name].values:
        after = changed(name, value, images)
        assert after.shape == images.shape
        assert 0 <= float(after.min()) <= float(after.max()) <= 1 + 1e-5
        if value == nothing:
            torch.testing.assert_close(after, images, atol=1e-4, rtol=0)
        elif name != "rotation" or abs(value) != 360:
            assert float((after - images).abs().mean()) > 1e-3


def test_movements_go_where_they_say():
    images = torch.zeros(1, 1, 9, 9, device=DEVICE)
    images[0, 0, 4, 4] = 1.0

    def brightest(name: str, value: float) -> tuple[int, int]:
        place = int(changed(name, value, images).flatten().argmax())
        return divmod(place, 9)

    assert brightest("translation_x", 2 / 9) == (4, 6)
    assert brightest("translation_y", 2 / 9) == (6, 4)
    images = images.roll(-3, dims=2)  # now above the centre
    assert brightest("rotation", 90.0) == (4, 7)
    assert brightest("flip", 2.0) == (7, 4)


def test_twice_the_size_shows_the_middle_half():
    image = torch.zeros(1, 1, 40, 40, device=DEVICE)
    image[:, :, 10:30, 10:30] = 1.0
    assert float(changed("scale", 2.0, image)[:, :, 2:-2, 2:-2].min()) == pytest.approx(1.0)


@pytest.mark.parametrize("area", [0.1, 0.4])
def test_the_covered_share_of_the_area_is_about_what_was_asked_for(area):
    images = photographs(8, 64)
    after = changed("occlusion", area, images)
    share = (after != images).float().mean(dim=(1, 2, 3))
    torch.testing.assert_close(share, torch.full_like(share, area), atol=0.06, rtol=0)
    assert len({int(x) for x in (after != images).flatten(1).float().argmax(dim=1)}) > 1


def test_consistency_is_whole_where_nothing_changes(tmp_path):
    found = find(make_evaluated(make_params(tmp_path, invariance={"images": 9}), images=60))
    assert set(found.numbers) == {"images", *INVARIANCES}
    for name, each in INVARIANCES.items():
        curve = found.numbers[name]
        assert len(curve["values"]) == len(curve["accuracy"]) == len(curve["consistency"])
        unchanged = each.values.index(UNCHANGED.get(name, 0.0))
        assert curve["consistency"][unchanged] == 1.0
        assert all(0 <= share <= 1 for share in curve["consistency"])
    assert len(found.drawings) == len(INVARIANCES)
