"""Augmentation: derived from (seed, epoch, key) alone, geometry exact, values in [0, 1]."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torchvision.transforms.functional import rgb_to_grayscale

from pipeline.errors import ConfigurationError
from pipeline.vision.augmentation import (
    AUGMENTATIONS,
    Blur,
    Colour,
    Erase,
    Noise,
)
from pipeline.vision.augmentation import build_policy as build_policy_at
from pipeline.vision.mixing import MIXINGS
from pipeline.vision.policies import POLICIES
from pipeline.vision.policy import Policy
from pipeline.vision.randomness import repeated, streams, uniform


def build_policy(policy) -> Policy:
    return build_policy_at(policy, where="augment.policy")


def half(name: str) -> dict[str, dict[str, float]]:
    """A policy of one augmentation at half of everything it may do."""
    ranges = {item.name: item.metadata["high"] for item in dataclasses.fields(AUGMENTATIONS[name])}
    return {name: {key: high / 2 for key, high in ranges.items()}}


EVERYTHING = {name: half(name)[name] for name in AUGMENTATIONS}
CASES = {name: half(name) for name in AUGMENTATIONS} | POLICIES | {"everything": EVERYTHING}
del CASES["none"]
PARTS = pytest.mark.parametrize("policy", CASES.values(), ids=CASES)


def batch(count: int = 8, channels: int = 3, side: int = 12, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, channels, side, side, generator=generator)
    keys = torch.randint(-(2**62), 2**62, (count,), generator=generator)
    return images, keys


@PARTS
@pytest.mark.parametrize("channels", [1, 3])
def test_an_augmentation_changes_images_within_the_range_and_leaves_its_input(policy, channels):
    images, keys = batch(32, channels)
    before = images.clone()
    result = build_policy(policy)(images, keys, seed=0, epoch=0)
    assert torch.equal(images, before)
    assert result.shape == images.shape
    assert result.dtype == images.dtype
    assert result.min() >= 0.0
    assert result.max() <= 1.0
    assert torch.equal(result, images) == (channels == 1 and list(policy) == ["grey"])


@PARTS
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_augmented_alike_in_any_batch(policy, channels):
    images, keys = batch(16, channels)
    augment = build_policy(policy)
    together = augment(images, keys, seed=3, epoch=5)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(augment(images[order], keys[order], seed=3, epoch=5), together[order])
    alone = [augment(images[i : i + 1], keys[i : i + 1], seed=3, epoch=5) for i in range(16)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=0, atol=1e-6)


@PARTS
def test_memory_format_and_dtype_change_the_layout_not_the_result(policy):
    images, keys = batch()
    augment = build_policy(policy)
    expected = augment(images, keys, seed=0, epoch=0)
    last = images.contiguous(memory_format=torch.channels_last)
    result = augment(last, keys, seed=0, epoch=0)
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
    half = augment(images.bfloat16(), keys, seed=0, epoch=0)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(
        half.float(), augment(images.bfloat16().float(), keys, seed=0, epoch=0), rtol=0, atol=4e-3
    )


@PARTS
def test_autocast_around_it_changes_nothing(policy):
    images, keys = batch()
    augment = build_policy(policy)
    with torch.autocast("cpu", torch.bfloat16):
        inside = augment(images, keys, seed=0, epoch=0)
    assert torch.equal(inside, augment(images, keys, seed=0, epoch=0))


@PARTS
@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}])
def test_another_seed_or_epoch_is_another_augmentation(policy, change):
    images, keys = batch(32)
    augment = build_policy(policy)
    one = augment(images, keys, seed=0, epoch=0)
    assert torch.equal(one, augment(images, keys, seed=0, epoch=0))
    assert not torch.equal(one, augment(images, keys, **({"seed": 0, "epoch": 0} | change)))


@PARTS
def test_global_random_state_is_neither_read_nor_moved(policy):
    images, keys = batch()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    one = build_policy(policy)(images, keys, seed=0, epoch=0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(build_policy(policy)(images, keys, seed=0, epoch=0), one)


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"flip": {}},
        {"affine": {"rotate": 0.0, "shift": 0.0}},
        {"erase": {"probability": 0.0, "area": 0.0}},
        {name: dict.fromkeys(EVERYTHING[name], 0.0) for name in EVERYTHING if name != "augmix"},
        {name: {"alpha": 1.0, "probability": 0.0} for name in MIXINGS},
        "none",
    ],
)
def test_a_policy_of_nothing_is_the_identity(policy):
    images, keys = batch()
    assert torch.equal(build_policy(policy)(images, keys, seed=0, epoch=0), images)


def test_brightness_is_added_and_contrast_grows_about_mid_grey():
    image = torch.tensor([0.25, 0.5, 0.75]).view(1, 1, 1, 3)
    u = torch.tensor([[1.0, 0.5, 0.5, 0.5]])
    torch.testing.assert_close(Colour(brightness=0.1).apply(image, u), image + 0.1)
    u = torch.tensor([[0.5, 1.0, 0.5, 0.5]])
    expected = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)
    torch.testing.assert_close(Colour(contrast=1.0).apply(image, u), expected)


def test_hue_and_saturation_leave_grey_alone_and_keep_luma():
    colour = Colour(saturation=1.0, hue=0.5)
    u = torch.rand(16, 4, generator=torch.Generator().manual_seed(0))
    grey = torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    result = colour.apply(grey.expand(16, 3, 4, 4), u)
    torch.testing.assert_close(result, grey.expand(16, 3, 4, 4), rtol=0, atol=2e-3)
    assert torch.equal(colour.apply(grey, u), grey)
    images, _ = batch(16)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    changed = colour.apply(images, u)
    torch.testing.assert_close((changed * luma).sum(1), (images * luma).sum(1))
    assert (changed - images).abs().max() > 0.3


def test_half_a_turn_of_hue_makes_red_bluish_green():
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    result = Colour(hue=0.5).apply(red, torch.tensor([[0.5, 0.5, 0.5, 1.0]])).flatten()
    assert result[0] < min(result[1], result[2])


def test_grey_is_the_luma_as_often_as_asked():
    images, keys = batch(1000, 3, 4)
    result = build_policy({"grey": {"probability": 0.3}})(images, keys, seed=0, epoch=0)
    grey = torch.stack([rgb_to_grayscale(image, 3) for image in images])
    changed = (result != images).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.05)
    torch.testing.assert_close(result[changed], grey[changed], rtol=0, atol=1e-3)
    one = images[:, :1]
    assert torch.equal(
        build_policy({"grey": {"probability": 0.9}})(one, keys, seed=0, epoch=0), one
    )


def test_colour_and_grey_are_one_after_the_other_in_one_matrix():
    images, keys = batch(64)
    colour = {"colour": {"brightness": 0.05, "contrast": 0.1, "saturation": 0.3, "hue": 0.1}}
    grey = {"grey": {"probability": 0.5}}
    images = 0.4 + 0.2 * images  # nothing is clamped between the two
    coloured = build_policy(colour)(images, keys, seed=0, epoch=0)
    expected = build_policy(grey)(coloured, keys, seed=0, epoch=0)
    both = build_policy(colour | grey)(images, keys, seed=0, epoch=0)
    torch.testing.assert_close(both, expected, rtol=0, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(sigma=st.floats(0.1, 4.0), seed=st.integers(0, 100))
def test_blur_is_that_of_each_image(sigma, seed):
    images = torch.rand(3, 2, 20, 28, generator=torch.Generator().manual_seed(seed))
    u = torch.rand(3, 1, generator=torch.Generator().manual_seed(seed + 1))
    result = Blur(sigma=sigma).apply(images, u)
    for image, own, blurred in zip(images.numpy(), u[:, 0].numpy(), result, strict=True):
        width = max(sigma * own, 1e-3)
        # By `truncate` the last pixel would be rounded, up as well.
        expected = gaussian_filter(image, width, mode="reflect", radius=int(4 * width), axes=(1, 2))
        np.testing.assert_allclose(blurred, expected, atol=1e-3)


def test_blur_keeps_the_mean_and_spreads_a_point_evenly():
    image = torch.zeros(1, 1, 31, 31)
    image[..., 15, 15] = 1.0
    result = Blur(sigma=2.0).apply(image, torch.ones(1, 1))[0, 0]
    assert result.sum().item() == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(result, result.T)
    torch.testing.assert_close(result, result.flip(0))
    spread = (result.sum(0) * (torch.arange(31) - 15.0) ** 2).sum()
    assert spread.item() == pytest.approx(4.0, rel=0.05)
    unchanged = Blur(sigma=2.0).apply(image, torch.zeros(1, 1))
    torch.testing.assert_close(unchanged, image)


def test_noise_has_the_asked_deviation_and_no_pattern():
    images = torch.zeros(32, 3, 32, 32)
    u = torch.stack([torch.ones(32), torch.rand(32)], dim=1)
    noise = Noise(sigma=0.1).apply(images, u)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.002)
    assert noise.std().item() == pytest.approx(0.1, rel=0.02)
    rows = noise.flatten(1)
    for lag in (1, 32, 1024):
        assert (rows[:, lag:] * rows[:, :-lag]).mean().abs() < 0.02 * 0.01
    between = torch.corrcoef(rows).fill_diagonal_(0.0)
    assert between.abs().max() < 0.1


@settings(max_examples=40, deadline=None)
@given(area=st.floats(0.01, 1.0), seed=st.integers(0, 1000))
def test_erasing_covers_one_rectangle_of_at_most_the_area(area, seed):
    images = torch.full((4, 3, 16, 16), 2.0)
    u = torch.rand(4, 6, generator=torch.Generator().manual_seed(seed))
    erased = Erase(probability=1.0, area=area).apply(images, u) != 2.0
    assert (erased.float().mean(dim=(1, 2, 3)) <= area + 2 / 16 + 1 / 256).all()
    for mask in erased[:, 0]:
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        assert torch.equal(mask, rows[:, None] & columns[None, :])
        assert (rows.int().diff() == 1).sum() <= 1


def test_erasing_happens_as_often_as_asked():
    images = torch.full((2000, 1, 8, 8), 2.0)
    policy = build_policy({"erase": {"probability": 0.3, "area": 1.0}})
    changed = policy(images, torch.arange(2000), seed=0, epoch=0) < 1.0
    assert changed.flatten(1).any(1).float().mean().item() == pytest.approx(0.3, abs=0.05)


def test_an_augmentations_numbers_do_not_depend_on_the_others():
    images, keys = batch(32)
    flip = {"flip": {"horizontal": 0.5}}
    erase = {"erase": {"probability": 0.5, "area": 0.3}}
    alone = build_policy(erase)(images, keys, seed=0, epoch=0)
    flipped = build_policy(flip)(images, keys, seed=0, epoch=0)
    covered = build_policy(erase)(flipped, keys, seed=0, epoch=0)
    assert torch.equal(build_policy(flip | erase)(images, keys, seed=0, epoch=0), covered)
    assert torch.equal((alone != images), (covered != flipped))


def test_the_order_in_the_file_does_not_matter():
    images, keys = batch(8)
    backwards = dict(reversed(EVERYTHING.items()))
    assert torch.equal(
        build_policy(EVERYTHING)(images, keys, seed=0, epoch=0),
        build_policy(backwards)(images, keys, seed=0, epoch=0),
    )


@settings(max_examples=15, deadline=None)
@given(
    keys=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 10**6),
)
def test_any_key_seed_and_epoch_is_accepted(keys, seed, epoch):
    images = torch.rand(len(keys), 1, 8, 8)
    policy = build_policy(EVERYTHING)
    result = policy(images, torch.tensor(keys), seed=seed, epoch=epoch)
    assert result.isfinite().all()
    numbers = uniform(torch.tensor(keys), streams([("any", 3)]), seed=seed, epoch=epoch)
    assert ((numbers >= 0.0) & (numbers < 1.0)).all()


def test_random_numbers_are_uniform_and_independent():
    uses = streams((name, 6) for name in AUGMENTATIONS)
    keys = torch.arange(20_000)  # neighbours, the hardest case
    numbers = uniform(keys, uses, seed=0, epoch=0)
    assert (numbers.mean(0) - 0.5).abs().max() < 0.01
    assert (numbers.var(0) - 1 / 12).abs().max() < 0.003
    assert torch.corrcoef(numbers.T).fill_diagonal_(0.0).abs().max() < 0.04
    later = uniform(keys, uses, seed=0, epoch=1)
    assert torch.corrcoef(torch.stack([numbers[:, 0], later[:, 0]]))[0, 1].abs() < 0.03


def test_random_numbers_stay_the_same_from_version_to_version():
    numbers = uniform(torch.tensor([1, -7]), streams([("flip", 2)]), seed=5, epoch=9)
    assert (numbers * 2**24).long().tolist() == [[15465318, 8903499], [11860965, 12457694]]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"flipp": {}}, r"augment\.policy\.flipp is not an augmentation; did you mean 'flip'\?"),
        ({"xyz": {}}, "allowed: flip, crop, affine, .*, mixup, cutmix"),
        ("standart", r"augment\.policy: 'standart' is not a policy; did you mean 'standard'\?"),
        ("xyz", "allowed: none, light, standard, strong, or a section"),
        ({"augmix": {"chains": 2.5, "severity": 3}}, r"chains: 2\.5 .* chains \(whole, 1 to 8\)"),
        ({"mixup": {"alpha": 0.2}}, r"augment\.policy\.mixup needs all of .*probability"),
        ({"cutmix": {"alpha": 0.0, "probability": 1.0}}, r"cutmix\.alpha: 0 is not allowed"),
        ({"affine": {"rotat": 3.0}}, r"augment\.policy\.affine\.rotat .* did you mean 'rotate'\?"),
        ({"affine": {"rotate": 200.0}}, r"affine\.rotate: 200 is not allowed.*0 to 180"),
        ({"flip": {"horizontal": -0.1}}, r"flip\.horizontal: -0\.1 is not allowed.*0 to 1"),
        ({"flip": {"horizontal": float("nan")}}, "nan is not allowed"),
        ({"erase": {"probability": 0.5}}, r"augment\.policy\.erase needs all of .*area"),
    ],
)
def test_a_wrong_policy_is_refused_with_what_is_allowed(policy, message):
    with pytest.raises(ConfigurationError, match=message):
        build_policy(policy)


def test_a_repeated_image_has_numbers_of_its_own_and_the_first_one_its_old_ones():
    keys = torch.tensor([5, 5, -(2**63), 2**63 - 1])
    new = repeated(keys, torch.tensor([0, 1, 0, 7]))
    assert new[0] == 5
    assert new[2] == -(2**63)
    assert len(set(new.tolist())) == 4


@PARTS
@settings(max_examples=6, deadline=None)
@given(
    key=st.integers(-(2**63), 2**63 - 1),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 10**6),
    channels=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(8, 24), st.integers(8, 24)),
    value=st.sampled_from([0.0, 0.5, 1.0, None]),
)
def test_any_image_stays_an_image(policy, key, seed, epoch, channels, size, value):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, channels, *size, generator=generator)
    if value is not None:
        images[1] = value
    keys = torch.tensor([key, key])
    augment = build_policy(policy)
    result = augment(images, keys, seed=seed, epoch=epoch)
    assert result.isfinite().all()
    assert ((result >= 0.0) & (result <= 1.0)).all()
    assert (result.shape, result.dtype) == (images.shape, images.dtype)
    assert torch.equal(augment(images, keys, seed=seed, epoch=epoch), result)


def test_every_policy_is_described_and_mixes_only_where_it_says():
    for policy in POLICIES.values():
        mixing = build_policy(policy).mixing
        assert (mixing is not None) == bool(MIXINGS.keys() & policy.keys())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@PARTS
@pytest.mark.parametrize("channels", [1, 3])
def test_a_gpu_augments_like_the_cpu(policy, channels):
    images, keys = batch(16, channels, 32)
    augment = build_policy(policy)
    expected = augment(images, keys, seed=2, epoch=3)
    result = augment(images.cuda(), keys.cuda(), seed=2, epoch=3).cpu()
    # An erased rectangle's or a mirrored border's edge may fall on the other side of a pixel.
    assert (result - expected).abs().gt(1e-3).float().mean() < 0.01
    uses = streams([("any", 9)])
    numbers = uniform(keys.cuda(), uses.cuda(), seed=2, epoch=3)
    assert torch.equal(numbers.cpu(), uniform(keys, uses, seed=2, epoch=3))
