"""Prediction: from bytes or packed pixels to logits."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.console import progress
from pipeline.data.pixels import decode_image
from pipeline.vision.batches import resize, to_float
from pipeline.vision.card import ModelCard, load_classifier
from pipeline.vision.models import Classifier
from pipeline.vision.precision import autocast
from pipeline.vision.views import mean_logits

__all__ = [
    "MAX_BYTES",
    "ModelCard",
    "best_device",
    "decode_for_model",
    "device_batch",
    "load_classifier",
    "predict_logits",
]

MAX_BYTES = 500_000_000
"""A larger image file is not read: no photograph is that large."""

_WORTH_PROGRESS = 20_000
"""Images from which on a prediction shows how far it is."""


def best_device(wanted: str = "auto") -> torch.device:
    """The device ``wanted`` where it is there, else the CPU; ``auto`` is the GPU.

    A model that was trained on a GPU can be used on a machine that has none.
    """
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda" if wanted == "auto" else wanted)


def decode_for_model(data: bytes, card: ModelCard) -> NDArray[np.uint8]:
    """An image file's content as the packed data would hold it: (H, W, C) ``uint8``.

    `predict_logits` brings it to the model's own size, as training did.

    Raises:
        DecodeError: the bytes are no usable image.
    """
    return decode_image(data, channels=card.channels, image_size=card.stored_size)


def predict_logits(
    classifier: Classifier,
    images: NDArray[np.uint8],
    *,
    image_size: int,
    device: torch.device | str = "cpu",
    rows: NDArray[np.int64] | None = None,
    batch_size: int = 256,
    precision: str = "float32",
    memory_format: str = "channels_last",
    what: str | None = None,
) -> NDArray[np.float32]:
    """Logits of ``images``, (n, K) ``float32``, in their order.

    A classifier of several ``views`` predicts the mean of their probabilities: the logits are then
    its logarithm.

    Args:
        classifier: on ``device``; its mode (train or eval) is the same afterwards.
        images: (N, H, W, C); may be mapped into memory, it is read batch by batch.
        image_size: `ModelCard.image_size`.
        device: where to compute.
        rows: which of ``images``; all by default.
        batch_size: images at a time; a matter of memory, not of the result beyond rounding.
        precision: ``float32``, ``bfloat16`` or ``float16`` (autocast), as the card's plan says.
        memory_format: as the card's plan says.
        what: what is predicted, for the progress shown for large sets.
    """
    place = torch.device(device)
    if rows is None:
        rows = np.arange(len(images))
    logits = np.empty((len(rows), classifier.num_classes), np.float32)
    show = what is not None and len(rows) >= _WORTH_PROGRESS
    layout = getattr(torch, memory_format)
    training = classifier.training
    classifier.eval()
    try:
        with (
            torch.inference_mode(),
            autocast(place, precision),
            progress(what or "", len(rows)) if show else contextlib.nullcontext() as step,
        ):
            for start in range(0, len(rows), batch_size):
                batch = device_batch(images[rows[start : start + batch_size]], place, image_size)
                predicted = mean_logits(classifier, batch, classifier.views, layout)
                logits[start : start + batch_size] = predicted.cpu().numpy()
                if step is not None:
                    step.advance(len(batch))
    finally:
        classifier.train(training)
    return logits


def device_batch(images: NDArray[np.uint8], device: torch.device, image_size: int) -> Tensor:
    """(n, H, W, C) ``uint8`` -> (n, C, image_size, image_size) ``float32`` on the device."""
    stored = torch.from_numpy(np.ascontiguousarray(images))
    if device.type == "cuda":
        stored = stored.pin_memory()
    return to_float(resize(stored.to(device, non_blocking=True), image_size))
