"""AugMix: its operations against Pillow's, its mixture against a loop over images and chains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pipeline.vision.augmix import LONGEST, OPERATIONS, AugMix, change_tone, moving
from pipeline.vision.image_ops import warp


def levels(**chosen: float) -> torch.Tensor:
    return torch.tensor([[chosen.get(name, 0.0) for name in OPERATIONS]])


def gradient(mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(20, 230, (24, 20, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    return image if mode == "RGB" else image.convert("L")


def as_tensor(image: Image.Image) -> torch.Tensor:
    pixels = np.atleast_3d(np.asarray(image)).astype(np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    ("chosen", "reference"),
    [
        ({}, lambda image: image),
        ({"solarize": 0.41}, lambda image: ImageOps.solarize(image, 151)),
        ({"posterize": 0.3}, lambda image: ImageOps.posterize(image, 3)),
        ({"posterize": 0.01}, lambda image: ImageOps.posterize(image, 4)),
        ({"autocontrast": 0.1}, ImageOps.autocontrast),
    ],
)
def test_a_change_of_tone_is_pillows(mode, chosen, reference):
    image = gradient(mode)
    changed = change_tone(as_tensor(image), levels(**chosen))
    torch.testing.assert_close(changed, as_tensor(reference(image)), rtol=0, atol=1.01 / 255)


def test_an_image_of_one_value_survives_stretching():
    flat = torch.full((1, 3, 4, 4), 0.4)
    changed = change_tone(flat.clone(), levels(autocontrast=1.0))
    torch.testing.assert_close(changed, flat, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"rotate": 3.0}, lambda x: x.rot90(-1, (2, 3))),
        ({"rotate": -3.0}, lambda x: x.rot90(1, (2, 3))),
        ({"translate_x": 1.0}, lambda x: torch.cat([x[..., 4:], x[..., 8:].flip(3)], 3)),
        ({"translate_y": -1.0}, lambda x: torch.cat([x[..., :4, :].flip(2), x[..., :-4, :]], 2)),
    ],
)
def test_moves_are_in_the_papers_units(chosen, expected):
    images = torch.rand(1, 1, 12, 12)
    # 3 times 30 degrees is a quarter turn; a third of 12 pixels is 4.
    result = warp(images, moving(levels(**chosen)))
    torch.testing.assert_close(result, expected(images), rtol=0, atol=1e-4)


def test_a_shear_moves_rows_by_three_tenths_of_their_distance():
    matrix = moving(levels(shear_x=1.0))[0]
    torch.testing.assert_close(
        matrix @ torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0.3, 1.0, 1.0])
    )
    matrix = moving(levels(shear_y=-1.0))[0]
    torch.testing.assert_close(
        matrix @ torch.tensor([1.0, 0.0, 1.0]), torch.tensor([1.0, -0.3, 1.0])
    )


def test_the_mixture_is_the_papers_chain_by_chain():
    part = AugMix(chains=3, severity=5.0)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 10, 10, generator=generator)
    u = torch.rand(6, part.draws, generator=generator)
    result = part.apply(images, u)
    for i in range(6):
        chains = u[i, 1:].view(3, -1)
        weights = -np.log1p(-chains[:, 0].numpy().astype(float))
        weights /= weights.sum()
        expected = u[i, 0] * images[i]
        for weight, own in zip(weights, chains, strict=True):
            signed, largest = part.levels(own[None, 1:])
            one = change_tone(warp(images[i : i + 1], moving(signed)), largest)
            expected = expected + (1 - u[i, 0]) * weight * one[0]
        torch.testing.assert_close(result[i], expected.float(), rtol=0, atol=1e-5)


def test_chains_have_one_to_three_operations_each_as_often_and_none_beyond_the_severity():
    part = AugMix(chains=1, severity=4.0)
    u = torch.rand(20_000, 1 + 3 * LONGEST, generator=torch.Generator().manual_seed(0))
    signed, largest = part.levels(u)
    assert largest.max() <= 0.4
    assert largest.max() > 0.39
    assert ((signed > 0).float().mean(0) - (signed < 0).float().mean(0)).abs().max() < 0.02
    share = (largest > 0).float().mean(0)
    expected = 1 - np.mean([(1 - 1 / len(OPERATIONS)) ** n for n in (1, 2, 3)])
    torch.testing.assert_close(share, torch.full_like(share, expected), rtol=0, atol=0.015)
