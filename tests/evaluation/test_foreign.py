from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.errors import ConfigurationError
from pipeline.evaluation.foreign import SCORES, find, noise_like
from pipeline.evaluation.robustness.corruption import Randomness
from tests.evaluation.robustness.test_corruptions import keys, photographs
from tests.evaluation.synthetic import make_evaluated, make_params


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_has_the_statistics_of_its_images_and_not_their_content(channels):
    images = photographs(4, 48, channels) * 0.3 + 0.35  # far from black and white
    noise = noise_like(images, Randomness(keys(4), 0, 0, "foreign"))
    torch.testing.assert_close(noise.mean(dim=(2, 3)), images.mean(dim=(2, 3)), atol=5e-3, rtol=0)
    torch.testing.assert_close(noise.std(dim=(2, 3)), images.std(dim=(2, 3)), atol=5e-3, rtol=0)
    for image, other in zip(images, noise, strict=True):
        pair = torch.stack([image.flatten(), other.flatten()])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.5


def test_scores_are_those_of_their_papers():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    _, probability = SCORES["max_softmax"]
    _, energy = SCORES["energy"]
    expected = np.exp(2) / (np.exp(2) + 1 + np.exp(-1))
    np.testing.assert_allclose(probability(logits), [expected, 1 / 3])
    np.testing.assert_allclose(energy(logits), [np.log(np.exp(2) + 1 + np.exp(-1)), np.log(3)])


def test_foreign_images_are_told_from_known_ones(tmp_path):
    found = find(make_evaluated(make_params(tmp_path), images=60))
    assert found.numbers["images"] == {"known": 8, "foreign": 8}
    for interval in found.numbers["auroc"].values():
        assert 0 <= interval["low"] <= interval["value"] <= interval["high"] <= 1


def test_the_energy_of_a_mean_of_probabilities_is_left_out(tmp_path):
    evaluated = make_evaluated(make_params(tmp_path), images=60)
    assert set(find(evaluated).numbers["auroc"]) == {"max_softmax", "energy"}
    evaluated.classifier.views = "flip"
    assert set(find(evaluated).numbers["auroc"]) == {"max_softmax"}


def packed_folder(path, side: int) -> str:
    rng = np.random.default_rng(0)
    path.mkdir()
    np.save(path / "images.npy", rng.integers(0, 256, (12, side, side, 1)).astype(np.uint8))
    index = {"image_id": [f"{i:064x}" for i in range(12)], "split": "train"}
    pd.DataFrame(index).to_parquet(path / "index.parquet")
    card = {"image_size": side, "channels": 1, "classes": ["x"], "mean": [0.5], "std": [0.2]}
    card |= {"images": 12, "copies": 0, "extra_columns": [], "digest": "f" * 64}
    (path / "packed.json").write_text(json.dumps(card))
    return str(path)


def test_another_packed_folder_can_be_the_foreign_set(tmp_path):
    folder = packed_folder(tmp_path / "other", 16)
    params = make_params(tmp_path, foreign={"images": 10, "folder": folder})
    found = find(make_evaluated(params, images=60))
    assert found.numbers["images"] == {"known": 10, "foreign": 10}
    assert folder in found.values["source"]


@pytest.mark.parametrize(("side", "message"), [(None, "holds no packed"), (20, "20 pixels")])
def test_a_folder_that_cannot_be_used_is_refused(tmp_path, side, message):
    folder = packed_folder(tmp_path / "other", side) if side else str(tmp_path)
    params = make_params(tmp_path, foreign={"images": 10, "folder": folder})
    with pytest.raises(ConfigurationError, match=rf"evaluate\.foreign\.folder.*{message}"):
        find(make_evaluated(params, images=60))
