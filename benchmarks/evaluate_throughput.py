"""Images per second of a prediction beside the forward passes alone, on batches that lie ready."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from benchmarks.results import SPEED, Row, beside
from pipeline.vision.inference import best_device, predict_logits
from pipeline.vision.models import Classifier, build
from pipeline.vision.precision import autocast

CASES = {
    "small_cnn, 28 px": ("small_cnn", 28, 1, 16_384),
    "small_cnn, 96 px": ("small_cnn", 96, 1, 4_096),
    "ResNet-18, 96 px": ("torchvision:resnet18", 96, 1, 1_024),
}
"""Network, side, channels, images."""
BATCH = 256
PRECISION = "bfloat16"


def rows(repeats: int = 5, images: int | None = None) -> list[dict[str, Any]]:
    """A row for each case; ``images`` makes the cases smaller."""
    return [
        asdict(_case(name, model, side, channels, min(images or count, count), repeats))
        for name, (model, side, channels, count) in CASES.items()
    ]


def _case(name: str, model: str, side: int, channels: int, count: int, repeats: int) -> Row:
    device = best_device()
    network = build(
        model,
        channels=channels,
        num_classes=2,
        image_size=side,
        architecture={},
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        where="benchmark",
    )
    network.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stored = np.random.default_rng(0).integers(0, 256, (count, side, side, channels), np.uint8)
    ready = torch.rand(min(count, BATCH), channels, side, side, device=device)
    ready = ready.contiguous(memory_format=torch.channels_last)
    ours, ceiling = list[float](), list[float]()
    for repeat in range(repeats + 1):
        for runs in (ours, ceiling) if repeat % 2 else (ceiling, ours):
            start = time.perf_counter()
            if runs is ours:
                predict_logits(
                    network,
                    stored,
                    image_size=side,
                    device=device,
                    batch_size=BATCH,
                    precision=PRECISION,
                )
            else:
                _forward_passes(network, ready, count)
            runs.append(count / (time.perf_counter() - start))
    ours, ceiling = ours[1:], ceiling[1:]  # the first are warm-up
    return beside(name, *SPEED, ours, ceiling, "forward passes alone, on ready batches")


def _forward_passes(network: Classifier, ready: torch.Tensor, count: int) -> None:
    with torch.inference_mode(), autocast(ready.device, PRECISION):
        for start in range(0, count, BATCH):
            logits = network(ready[: min(BATCH, count - start)])
        logits.cpu()  # the device is done
