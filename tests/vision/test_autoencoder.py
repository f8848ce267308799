"""Autoencoders: every network as an encoder, and drawings of the images' own size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigurationError
from pipeline.vision.models import MODELS, build
from pipeline.vision.models.autoencoder import Decoder, autoencoder
from pipeline.vision.models.classifier import Classifier
from pipeline.vision.models.layers import head_layers
from pipeline.vision.models.pretrained import Pretrained

SEVERAL_HEADS = {"googlenet", "inception_v3", "capsnet", "ensemble"}


def classifier_of(model: str, *, image_size: int = 96, channels: int = 1, **own: Any) -> Classifier:
    return build(
        model,
        channels=channels,
        num_classes=3,
        image_size=image_size,
        architecture=own,
        mean=[0.5] * channels,
        std=[0.2] * channels,
    )


def make(model: str, *, masking: float = 0.0, image_size: int = 96, **changes: Any) -> Classifier:
    classifier = classifier_of(model, image_size=image_size, **changes)
    return autoencoder(classifier, image_size=image_size, masking=masking, where="variants.x")


@pytest.mark.parametrize("model", MODELS)
def test_each_network_becomes_an_encoder_or_is_refused(model):
    with torch.device("meta"):
        if model in SEVERAL_HEADS:
            with pytest.raises(ConfigurationError, match=r"variants\.x\.pretraining.*one dense"):
                make(model)
            return
        drawing = make(model).eval()(torch.zeros(2, 1, 96, 96))
    assert drawing.shape == (2, 1, 96, 96)


def test_a_network_with_more_behind_its_last_dense_layer_is_refused():
    with pytest.raises(ConfigurationError, match="gives no features"):
        make("lenet5", image_size=32, output="rbf")


@settings(max_examples=25, deadline=None)
@given(size=st.integers(8, 70), channels=st.sampled_from([1, 3]))
def test_a_drawing_has_the_images_size_odd_or_even(size, channels):
    decoder = Decoder(5, channels, size).eval()
    with torch.no_grad():
        drawings = decoder(torch.randn(2, 5))
    assert drawings.shape == (2, channels, size, size)
    assert drawings.min() >= 0
    assert drawings.max() <= 1


@pytest.mark.parametrize("model", ["nielsen", "small_cnn", "mlp"])
def test_what_an_encoder_learned_fits_its_network_by_name_and_bit(model):
    learned = make(model, image_size=33).net.get_submodule("encoder").state_dict()
    classifier = classifier_of(model, image_size=33)
    before = {name: tensor.clone() for name, tensor in classifier.net.state_dict().items()}
    (head,) = head_layers(classifier.net)
    Pretrained("pretraining", learned).copy_to(classifier, where="variants.x")
    for name, tensor in classifier.net.state_dict().items():
        if name.startswith(f"{head}."):
            assert torch.equal(tensor, before.pop(name))
        else:
            assert torch.equal(tensor, learned.pop(name))
    assert not learned


def test_the_error_is_the_mean_squared_one_of_the_images_as_they_were():
    network = make("nielsen", image_size=32, masking=0.5)
    pixels = torch.rand(4, 1, 32, 32)
    drawings = torch.rand(4, 1, 32, 32)
    expected = [((a - b) ** 2).mean() for a, b in zip(drawings, pixels, strict=True)]
    torch.testing.assert_close(network.net.errors(drawings, pixels), torch.stack(expected))
    torch.testing.assert_close(
        network.net.training_loss(drawings, pixels), torch.stack(expected).mean()
    )


def test_masking_hides_its_share_of_the_pixels_and_only_in_training():
    seen = list[torch.Tensor]()
    network = make("small_cnn", image_size=64, masking=0.3, channels=3).net
    network.encoder.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(16, 3, 64, 64) + 0.5
    torch.manual_seed(0)
    network(images)
    network.eval()(images)
    hidden = (seen[0] == 0).float()
    assert torch.equal(hidden[:, 0], hidden[:, 2])  # all channels of a pixel
    assert hidden.mean().item() == pytest.approx(0.3, abs=0.01)
    assert torch.equal(seen[0][seen[0] != 0], images[seen[0] != 0])
    assert torch.equal(seen[1], images)
