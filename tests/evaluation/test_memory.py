"""What is computed at a time follows ``evaluate.batch_size`` and the size of the images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pipeline.evaluation.explain.embedding import observe
from pipeline.evaluation.explain.faithfulness import deletion_and_insertion, random_map
from pipeline.evaluation.explain.occlusion import occlusion
from pipeline.evaluation.memory import at_a_time
from pipeline.evaluation.robustness import corruptions
from tests.evaluation.synthetic import make_evaluated, make_params


class Counting(nn.Module):
    """Two logits from the halves of an image; remembers how many images it was given at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def forward(self, images: Tensor) -> Tensor:
        self.most = max(self.most, len(images))
        return torch.stack([half.mean(dim=(1, 2, 3)) for half in images.chunk(2, dim=3)], dim=1)


def test_images_of_up_to_128_pixels_are_as_many_as_asked_for_and_larger_ones_as_heavy():
    assert at_a_time(256, 96, 96) == at_a_time(256, 128, 128) == 256
    assert at_a_time(256, 256, 256) == 64
    assert at_a_time(64, 128, 512) == 16
    assert at_a_time(2, 5000, 5000) == 1


def covered(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return deletion_and_insertion(
        *(network, images, targets, random_map(network, images, targets)),
        torch.zeros_like(images),
        batch_size=64,
    ).deletion


@pytest.mark.parametrize("measure", [covered, occlusion])
def test_of_large_images_fewer_are_predicted_at_a_time(
    measure: Callable[[nn.Module, Tensor, Tensor], Tensor],
):
    torch.manual_seed(0)
    images, targets = torch.rand(6, 1, 512, 512), torch.tensor([0, 1] * 3)
    network = Counting()
    together = measure(network, images, targets)
    assert 1 <= network.most <= 4
    if measure is occlusion:
        alone = torch.cat([measure(network, images[i : i + 1], targets[i : i + 1]) for i in (0, 1)])
        torch.testing.assert_close(together[:2], alone)


def test_embeddings_are_of_no_more_images_at_a_time_than_asked_for(tmp_path):
    evaluated = make_evaluated(make_params(tmp_path))
    sizes = []
    evaluated.classifier.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    found = [
        observe(
            *(evaluated.classifier, evaluated.card, evaluated.packed, evaluated.test_rows),
            device=evaluated.device,
            batch_size=size,
        ).embeddings
        for size in (7, 30)
    ]
    assert sorted(set(sizes) - {1}) == [2, 7, 30]
    torch.testing.assert_close(*map(torch.from_numpy, found))


@pytest.mark.parametrize(("side", "batch_size", "most"), [(16, 5, 5), (256, 256, 16)])
def test_corruptions_are_of_few_images_at_a_time_and_the_same_in_any_number(
    tmp_path, monkeypatch, side, batch_size, most
):
    every = corruptions.CORRUPTIONS
    monkeypatch.setattr(
        corruptions, "CORRUPTIONS", {name: every[name] for name in ("shot_noise", "glass_blur")}
    )
    sizes = []

    def watched(images: Tensor, *given: object, **named: object) -> Tensor:
        sizes.append(len(images))
        return corruptions_corrupt(images, *given, **named)

    corruptions_corrupt = corruptions.corrupt
    monkeypatch.setattr(corruptions, "corrupt", watched)
    params = make_params(tmp_path, batch_size=batch_size, corruptions={"images": 20})
    evaluated = make_evaluated(params, side=side)
    positions = evaluated.some_test_images(20)
    together = corruptions.measure_corruptions(evaluated, positions)
    assert max(sizes) == most
    monkeypatch.setattr(corruptions, "_CHUNK", 3)
    assert corruptions.measure_corruptions(evaluated, positions) == together
