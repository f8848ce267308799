"""Prediction sees what training saw, whatever the batch size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.data.decode import DecodeError
from pipeline.vision import inference
from pipeline.vision.batches import Images
from pipeline.vision.card import save_model
from pipeline.vision.inference import decode_for_model, load_classifier, predict_logits
from tests.vision.trained import make_model


@pytest.fixture
def images():
    """Noise of rising brightness, 80 px."""
    noise = np.random.default_rng(0).random((21, 80, 80, 1))
    return (noise * np.linspace(20, 255, 21)[:, None, None, None]).astype(np.uint8)


@pytest.mark.parametrize("batch_size", [1, 4, 21, 1000])
def test_the_batch_size_does_not_matter(images, batch_size):
    classifier, _ = make_model()
    expected = predict_logits(classifier, images, image_size=64, batch_size=7)
    logits = predict_logits(classifier, images, image_size=64, batch_size=batch_size)
    assert logits.dtype == np.float32
    assert logits.shape == (21, 2)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert np.ptp(logits[:, 0]) > 1e-3


def test_rows_choose_images_of_a_mapped_file(tmp_path, images):
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    classifier, _ = make_model()
    rows = np.array([20, 3, 3])
    expected = predict_logits(classifier, images, image_size=64)[rows]
    np.testing.assert_allclose(
        predict_logits(classifier, mapped, rows=rows, image_size=64), expected, atol=1e-5
    )


def test_no_images_give_no_logits():
    classifier, _ = make_model()
    assert predict_logits(classifier, np.empty((0, 8, 8, 1), np.uint8), image_size=64).shape == (
        0,
        2,
    )


def test_prediction_uses_running_statistics_and_leaves_the_mode(images):
    classifier, _ = make_model()
    expected = predict_logits(classifier, images, image_size=64)
    classifier.train()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    np.testing.assert_allclose(
        predict_logits(classifier, images, image_size=64, batch_size=2), expected, atol=1e-5
    )
    assert classifier.training
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


def test_bfloat16_is_close_to_float32_but_not_equal(images):
    classifier, _ = make_model()
    exact = predict_logits(classifier, images, image_size=64)
    rough = predict_logits(classifier, images, image_size=64, precision="bfloat16")
    assert rough.dtype == np.float32
    np.testing.assert_allclose(rough, exact, atol=0.05)
    assert (rough != exact).any()


def test_a_file_is_read_as_its_packed_image(packed, packed_colour, tmp_path_factory):
    for data in (packed, packed_colour):
        _, card = make_model(
            channels=data.channels, image_size=16, mean=data.mean, std=data.std, stored_size=16
        )
        root = next(tmp_path_factory.getbasetemp().glob("grey*" if data is packed else "colour*"))
        path = root / "data" / data.index["file_name"].iloc[5]
        np.testing.assert_array_equal(decode_for_model(path.read_bytes(), card), data.images[5])


def test_training_and_prediction_shrink_alike(packed):
    classifier, _ = make_model(image_size=16)
    rows = packed.rows("train")
    images = Images(packed, rows, device="cpu", image_size=16)
    with torch.inference_mode():
        expected = classifier(images.take(torch.arange(len(rows)))).numpy()
    logits = predict_logits(classifier, packed.images, rows=rows, image_size=16)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_bytes_that_are_no_image_are_refused():
    _, card = make_model()
    with pytest.raises(DecodeError):
        decode_for_model(b"no image", card)


def test_a_long_prediction_shows_progress(images, monkeypatch, caplog):
    monkeypatch.setattr(inference, "_WORTH_PROGRESS", 5)
    classifier, _ = make_model()
    with caplog.at_level("INFO", logger="pipeline"):
        predict_logits(classifier, images, image_size=64, what="labelling")
    assert "labelling: 21 images" in caplog.text


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("model", ["small_cnn", "torchvision:resnet18", "timm:regnetx_002"])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 5e-3), ("bfloat16", 0.1)])
def test_a_gpu_predicts_like_the_cpu(tmp_path, images, model, precision, tolerance):
    classifier, card = make_model(model)
    expected = predict_logits(classifier, images, image_size=64)
    save_model(tmp_path / "model", classifier, card, [])
    on_gpu, _ = load_classifier(tmp_path / "model", "cuda")
    logits = predict_logits(on_gpu, images, image_size=64, device="cuda", precision=precision)
    np.testing.assert_allclose(logits, expected, atol=tolerance)
