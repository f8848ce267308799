from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pipeline.evaluation.robustness.blur import disc, gaussian_blur
from pipeline.evaluation.robustness.corruption import SEVERITIES, Randomness, corrupt
from pipeline.evaluation.robustness.corruptions import CORRUPTIONS, find
from pipeline.evaluation.robustness.mce import mean_corruption_error
from pipeline.evaluation.robustness.weather import NUMBERS, plasma
from tests.evaluation.synthetic import make_evaluated, make_params

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ROUNDING = 1.01 / 255


def photographs(count: int, side: int = 48, channels: int = 1, *, seed: int = 0) -> Tensor:
    """Smooth images in 256 grey levels, (N, C, H, W)."""
    torch.manual_seed(seed)
    images = gaussian_blur(torch.rand(count, channels, side, side), side / 20)
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    return ((images - low) / (high - low) * 255).round().div(255).to(DEVICE)


def keys(count: int) -> Tensor:
    return (torch.arange(1, count + 1) * 7_919_000_001).to(DEVICE)


def corrupted(images: Tensor, name: str, severity: int, *, seed: int = 0) -> Tensor:
    numbers = keys(len(images))
    return corrupt(images, numbers, name, CORRUPTIONS[name], severity, seed=seed)


def test_there_are_the_fifteen_of_the_benchmark():
    assert set(CORRUPTIONS) == {
        *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur"),
        *("motion_blur", "zoom_blur", "snow", "frost", "fog", "brightness", "contrast"),
        *("elastic_transform", "pixelate", "jpeg_compression"),
    }


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (33, 3), (96, 1)])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_fits_images_of_any_size_and_colour(name, side, channels):
    images = photographs(2, side, channels)
    before = images.clone()
    for severity in SEVERITIES:
        changed = corrupted(images, name, severity)
        assert changed.shape == images.shape
        assert changed.dtype == torch.float32
        assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
        torch.testing.assert_close(changed * 255, (changed * 255).round(), atol=1e-3, rtol=0)
        assert not torch.equal(changed, images)
    assert torch.equal(images, before)


# The severities of the elastic transform bend the image more and move it less.
@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - {"elastic_transform"}))
def test_the_highest_severity_leaves_less_of_the_image_than_the_lowest(name):
    images = photographs(6, 64)

    def left(severity: int) -> tuple[float, float]:
        """How far the image is from the original, and how little it has in common with it."""
        changed = corrupted(images, name, severity)
        pair = torch.stack([images.flatten(), changed.flatten()])
        return float((changed - images).abs().mean()), 1 - float(torch.corrcoef(pair)[0, 1])

    assert any(high > 1.1 * low for low, high in zip(left(1), left(5), strict=True))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_happens_to_an_image_follows_from_its_key_alone(name):
    images = photographs(4)
    together = corrupted(images, name, 3)
    alone = corrupt(images[2:3], keys(4)[2:3], name, CORRUPTIONS[name], 3, seed=0)
    torch.testing.assert_close(alone[0], together[2], atol=ROUNDING, rtol=0)
    assert torch.equal(corrupted(images, name, 3), together)


@pytest.mark.parametrize(
    "name",
    sorted(
        set(CORRUPTIONS)
        - {
            *("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate"),
            "jpeg_compression",
        }
    ),
)
def test_random_corruptions_differ_between_images_and_seeds(name):
    images = photographs(1).expand(2, -1, -1, -1).contiguous()
    first, second = corrupted(images, name, 4)
    assert not torch.equal(first, second)
    assert not torch.equal(corrupted(images, name, 4, seed=1)[0], first)


def test_gaussian_noise_has_its_spread():
    grey = torch.full((4, 1, 96, 96), 0.5, device=DEVICE)
    noise = corrupted(grey, "gaussian_noise", 3) - grey
    assert float(noise.std()) == pytest.approx(0.12, rel=0.03)
    assert abs(float(noise.mean())) < 0.005


@pytest.mark.parametrize("level", [0.2, 0.6])
def test_shot_noise_is_poisson(level):
    level = round(level * 255) / 255
    grey = torch.full((4, 1, 96, 96), level, device=DEVICE)
    numbers = Randomness(keys(4), 0, 3, "shot_noise")
    shot = CORRUPTIONS["shot_noise"].apply(grey, numbers, 50.0)
    assert float(shot.mean()) == pytest.approx(level, rel=0.02)
    assert float(shot.var()) == pytest.approx(level / 50, rel=0.05)
    black = torch.zeros(1, 1, 8, 8, device=DEVICE)
    assert not CORRUPTIONS["shot_noise"].apply(black, Randomness(keys(1), 0, 1, "x"), 50.0).any()


def test_impulse_noise_hits_its_share_half_black_half_white():
    grey = torch.full((4, 1, 96, 96), 0.5, device=DEVICE)
    changed = corrupted(grey, "impulse_noise", 5)
    for colour in (0.0, 1.0):
        assert float((changed == colour).float().mean()) == pytest.approx(0.07, abs=0.006)


@pytest.mark.parametrize("quality", [25, 50, 65])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_loses_what_pillow_loses(quality, channels):
    images = photographs(1, 64, channels)
    ours = CORRUPTIONS["jpeg_compression"].apply(images, None, float(quality)).clamp(0, 1)
    pixels = (images[0].permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "JPEG", quality=quality)
    theirs = np.asarray(Image.open(buffer), np.float32).reshape(pixels.shape) / 255
    distance = np.abs(ours[0].permute(1, 2, 0).cpu().numpy() - theirs).mean()
    lost = np.abs(pixels / 255 - theirs).mean()
    assert distance < (0.35 if channels == 1 else 0.7) * lost


@pytest.mark.parametrize("kept", [0.9, 0.5])
def test_pixelation_is_pillows_box_filter(kept):
    images = photographs(1, 60)
    ours = CORRUPTIONS["pixelate"].apply(images, None, kept)
    picture = Image.fromarray(images[0, 0].cpu().numpy(), "F")
    small = picture.resize((int(60 * kept),) * 2, Image.Resampling.BOX)
    theirs = torch.from_numpy(np.asarray(small.resize((60, 60), Image.Resampling.BOX)).copy())
    # Pillow counts a pixel by its centre, where blocks cover pixels in part.
    distance = (ours[0, 0].cpu() - theirs).abs().mean()
    assert float(distance) < (1e-6 if kept == 0.5 else 0.02)


def test_contrast_keeps_the_mean_and_brightness_the_hue():
    images = photographs(3, 48, 3)
    paler = CORRUPTIONS["contrast"].apply(images, None, 0.3)
    torch.testing.assert_close(paler.mean(dim=(2, 3)), images.mean(dim=(2, 3)))
    torch.testing.assert_close(paler.std(dim=(2, 3)), 0.3 * images.std(dim=(2, 3)))
    colour = torch.tensor([0.4, 0.2, 0.1], device=DEVICE).view(1, 3, 1, 1)
    lit = CORRUPTIONS["brightness"].apply(colour, None, 0.2)
    torch.testing.assert_close(lit, colour * 1.5)


def test_a_disc_is_round_and_adds_up_to_one():
    for radius in (0.3, 1.0, 2.5, 7.0):
        kernel = disc(radius)
        assert float(kernel.sum()) == pytest.approx(1.0)
        torch.testing.assert_close(kernel, kernel.T)
        torch.testing.assert_close(kernel, kernel.flip(0))
    assert 1 / float(disc(7.0).max()) == pytest.approx(np.pi * 7.0**2, rel=0.05)


def test_clouds_reach_from_black_to_white():
    u = Randomness(keys(3), 0, 1, "fog").uniform(NUMBERS)
    clouds = plasma(u, torch.Size((40, 52)), 2.0)
    assert clouds.shape == (3, 1, 40, 52)
    assert float(clouds.amin()) == 0
    torch.testing.assert_close(clouds.amax(dim=(1, 2, 3)), torch.ones(3, device=DEVICE))


def test_errors_are_those_of_the_network_on_each_corrupted_image(tmp_path):
    evaluated = make_evaluated(make_params(tmp_path), images=60)
    found = find(evaluated)
    positions = evaluated.some_test_images(4)
    images, numbers = evaluated.images(positions), evaluated.keys(positions)
    targets = evaluated.targets(positions)
    for name in ("fog", "jpeg_compression"):
        changed = corrupt(images, numbers, name, CORRUPTIONS[name], 2, seed=0)
        with torch.inference_mode():
            wrong = evaluated.classifier(changed).argmax(dim=1) != targets
        assert found.numbers["errors"][name][1] == float(wrong.double().mean())
    every = [error for errors in found.numbers["errors"].values() for error in errors]
    assert found.numbers["mean_error"]["value"] == pytest.approx(np.mean(every), abs=1e-6)


def test_every_variant_is_asked_about_the_same_images(tmp_path):
    params = make_params(tmp_path)
    first = make_evaluated(params, images=90, skill=0.5)
    second = make_evaluated(params, images=90, skill=3.0)
    few, more = first.some_test_images(5), second.some_test_images(12)
    assert len(few) == 5
    assert set(few) < set(more)


def test_the_mean_corruption_error_is_worked_out_by_hand():
    errors = {"fog": [0.1, 0.3], "snow": [0.5, 0.5]}
    reference = {"fog": [0.2, 0.2], "snow": [0.2, 0.3]}
    assert mean_corruption_error(errors, reference) == pytest.approx((1.0 + 2.0) / 2)
    assert mean_corruption_error(reference, reference) == 1.0
    perfect = {"fog": [0.0, 0.0], "snow": [0.2, 0.3]}
    assert mean_corruption_error(errors, perfect) == pytest.approx(2.0)
    assert mean_corruption_error(errors, {"fog": [0.0], "snow": [0.0]}) is None
