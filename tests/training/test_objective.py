"""The objective counts classes and images as it is told to."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DataRefused
from pipeline.training.objective import class_weights, cross_entropy, image_weights

images = st.lists(
    st.tuples(st.integers(0, 3), st.floats(0.0, 8.0, width=16)), min_size=1, max_size=40
).filter(lambda pairs: sum(weight for _, weight in pairs) > 0)


@settings(deadline=None)
@given(images)
def test_balanced_weights_give_every_class_the_same_say(pairs):
    targets = torch.tensor([target for target, _ in pairs])
    samples = torch.tensor([weight for _, weight in pairs])
    weights = image_weights(targets, samples, class_weights(targets, samples, num_classes=4))
    assert weights.mean() == pytest.approx(1.0, rel=1e-4)
    says = torch.zeros(4).index_add_(0, targets, weights)
    heard = says[says > 0]
    torch.testing.assert_close(heard, heard.mean().expand_as(heard), rtol=1e-4, atol=1e-6)


def test_class_weights_follow_the_published_formula():
    targets = torch.tensor([0, 0, 0, 1])
    weights = class_weights(targets, torch.ones(4), num_classes=3)
    assert weights.tolist() == pytest.approx([4 / (3 * 3), 4 / (3 * 1), 0.0])


def test_images_without_any_weight_are_refused():
    targets = torch.tensor([0, 1])
    with pytest.raises(DataRefused, match="weight 0"):
        image_weights(targets, torch.zeros(2), torch.ones(2))


def test_weight_zero_takes_an_image_out_and_weight_one_is_plain_cross_entropy():
    logits, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    plain = cross_entropy(logits, targets, torch.ones(6), label_smoothing=0.1)
    torch.testing.assert_close(plain, F.cross_entropy(logits, targets, label_smoothing=0.1))
    half = torch.tensor([1.0, 1, 1, 0, 0, 0]) * 2
    kept = F.cross_entropy(logits[:3], targets[:3])
    torch.testing.assert_close(cross_entropy(logits, targets, half, label_smoothing=0.0), kept)


def test_reduced_precision_logits_are_summed_in_float32():
    logits = torch.randn(4, 2, dtype=torch.bfloat16)
    loss = cross_entropy(
        logits, torch.zeros(4, dtype=torch.int64), torch.ones(4), label_smoothing=0
    )
    assert loss.dtype is torch.float32
