"""Mixing: pixels and labels by the same shares, against a loop over the images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from pipeline.errors import ConfigurationError
from pipeline.vision.augmentation import build_policy
from pipeline.vision.mixing import CutMix, Mixing, Mixup, neighbours
from pipeline.vision.randomness import beta_quantiles, interpolate

MIXINGS = {
    "mixup": {"mixup": {"alpha": 0.4, "probability": 0.7}},
    "cutmix": {"cutmix": {"alpha": 1.0, "probability": 0.7}},
    "both": {
        "mixup": {"alpha": 0.2, "probability": 0.4},
        "cutmix": {"alpha": 1.0, "probability": 0.4},
    },
}
EACH = pytest.mark.parametrize("policy", MIXINGS.values(), ids=MIXINGS)


def mixing_of(policy) -> Mixing:
    mixing = build_policy(policy, where="augment.policy").mixing
    assert mixing is not None
    return mixing


def batch(count=8, channels=3, size=(10, 14), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, *size, generator=generator), torch.arange(count) * 7 - 20


def mixed(policy, images, keys, *, seed=0, epoch=0):
    partners = neighbours(len(images), "cpu")
    return mixing_of(policy)(images, keys, partners, seed=seed, epoch=epoch)


@EACH
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 1000),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    count=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
)
def test_a_labels_weight_is_its_images_share_of_the_pixels(
    policy, seed, epoch, size, count, channels
):
    _, keys = batch(count)
    # Each image's pixels say whose they are: 0 and 1 in turn.
    images = (torch.arange(count) % 2).float()[:, None, None, None].expand(-1, channels, *size)
    result, share = mixed(policy, images, keys, seed=seed, epoch=epoch)
    assert result.shape == images.shape
    assert share.shape == (count,)
    assert ((share >= 0) & (share <= 1)).all()
    own = torch.where(images[:, 0, 0, 0] == 1, result.mean((1, 2, 3)), 1 - result.mean((1, 2, 3)))
    paired = torch.arange(count) < count // 2 * 2  # an odd last one is mixed with itself
    torch.testing.assert_close(own[paired], share[paired], rtol=0, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    alpha=st.floats(0.05, 8.0),
    u=st.lists(st.integers(0, 2**24 - 1).map(lambda i: i / 2**24), min_size=3, max_size=3),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_cutmix_pastes_the_papers_rectangle(alpha, u, size):
    part = CutMix(alpha=alpha, probability=1.0)
    rows, columns = part.partners_pixels(torch.tensor([u]), *size)
    cut = np.sqrt(interpolate(beta_quantiles(alpha), torch.tensor(u[:1])).numpy()[0])
    pasted = np.zeros(size)
    spans = []
    for centre, length in zip(u[1:], size, strict=True):
        middle = int(np.float32(centre) * np.float32(length))
        half = int(np.float32(0.5) * cut * np.float32(length))
        spans.append(slice(max(middle - half, 0), min(middle + half, length)))
    pasted[tuple(spans)] = 1.0
    np.testing.assert_array_equal((rows[0, :, None] * columns[0]).numpy(), pasted)


def test_mixup_is_the_papers_convex_sum_image_by_image():
    images, keys = batch(16)
    policy = {"mixup": {"alpha": 0.3, "probability": 1.0}}
    result, share = mixed(policy, images, keys)
    for i in range(16):
        expected = share[i] * images[i] + (1 - share[i]) * images[i ^ 1]
        torch.testing.assert_close(result[i], expected, rtol=0, atol=1e-6)
    assert len(share.unique()) == 16


def test_cutmix_changes_no_other_pixel_and_pastes_the_same_place():
    images, keys = batch(64)
    result, share = mixed({"cutmix": {"alpha": 1.0, "probability": 1.0}}, images, keys)
    own = (result == images).all(dim=1)
    other = (result == images[neighbours(64, "cpu")]).all(dim=1)
    assert (own ^ other).all()
    torch.testing.assert_close(own.sum((1, 2)) / 140, share, rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 2.5, 64.0])
def test_shares_are_drawn_from_the_asked_distribution(alpha):
    steps = np.linspace(0, 1, 4097)
    np.testing.assert_allclose(beta_quantiles(alpha), beta.ppf(steps, alpha, alpha), atol=1e-6)
    u = torch.rand(50_000, 1, generator=torch.Generator().manual_seed(0))
    drawn = Mixup(alpha=alpha, probability=1.0).partners_weight(u)
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.01)
    assert drawn.var().item() == pytest.approx(beta.var(alpha, alpha), rel=0.03)


def test_images_are_mixed_as_often_as_asked_and_in_one_way_at_most():
    images, keys = batch(4000, 1, (4, 4))
    one, other, both = (mixed(MIXINGS[name], images, keys)[1] for name in MIXINGS)
    assert (one < 1).float().mean().item() == pytest.approx(0.7, abs=0.03)
    assert (other < 1).float().mean().item() > 0.5  # a small rectangle may hold no pixel
    policy = MIXINGS["both"]
    alone = [mixed({name: policy[name]}, images, keys)[1] for name in policy]
    assert torch.equal(both, torch.minimum(*alone))  # neither moves the other's numbers
    assert not ((alone[0] < 1) & (alone[1] < 1)).any()


@EACH
def test_it_follows_from_seed_epoch_key_and_partner_alone(policy):
    images, keys = batch(16)
    before = images.clone()
    result, share = mixed(policy, images, keys, seed=3, epoch=5)
    assert torch.equal(images, before)
    again, same = mixed(policy, images, keys, seed=3, epoch=5)
    assert torch.equal(result, again)
    assert torch.equal(share, same)
    part = slice(4, 10)  # from an even position on, as a part of the batch
    smaller, shares = mixed(policy, images[part], keys[part], seed=3, epoch=5)
    assert torch.equal(smaller, result[part])
    assert torch.equal(shares, share[part])
    for change in ({"seed": 4}, {"epoch": 6}):
        assert not torch.equal(
            mixed(policy, images, keys, **({"seed": 3, "epoch": 5} | change))[1], share
        )


@EACH
def test_memory_format_and_dtype_stay(policy):
    images, keys = batch()
    expected, _ = mixed(policy, images, keys)
    last, _ = mixed(policy, images.contiguous(memory_format=torch.channels_last), keys)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, expected)
    with torch.autocast("cpu", torch.bfloat16):
        half, share = mixed(policy, images.bfloat16(), keys)
    assert half.dtype == torch.bfloat16
    assert share.dtype == torch.float32


def test_neighbours_are_pairs_in_the_order_of_the_batch():
    assert neighbours(5, "cpu").tolist() == [1, 0, 3, 2, 4]
    assert neighbours(1, "cpu").tolist() == [0]


def test_more_than_every_image_cannot_be_mixed():
    policy = {name: {"alpha": 1.0, "probability": 0.6} for name in ("mixup", "cutmix")}
    with pytest.raises(ConfigurationError, match=r"train\.policy: .* add up to 1\.2, expected"):
        build_policy(policy, where="train.policy")


def test_without_a_probability_nothing_is_mixed():
    policy = {"mixup": {"alpha": 1.0, "probability": 0.0}}
    assert build_policy(policy, where="augment.policy").mixing is None


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@EACH
def test_a_gpu_mixes_like_the_cpu(policy):
    images, keys = batch(16)
    expected, share = mixed(policy, images, keys)
    mixing, partners = mixing_of(policy), neighbours(16, "cuda")
    result, shares = mixing(images.cuda(), keys.cuda(), partners, seed=0, epoch=0)
    torch.testing.assert_close(shares.cpu(), share, rtol=0, atol=0.02)
    assert (result.cpu() - expected).abs().gt(1e-3).float().mean() < 0.02
