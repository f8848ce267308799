"""The loop that most people write: ImageFolder, DataLoader, transforms for each image.

``python torchvision_loop.py CASE`` prints the images per second of the last epoch.
"""

from __future__ import annotations

import time

import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.loops.case import (
    ERASE,
    FLIP,
    LABEL_SMOOTHING,
    Case,
    asked,
    network,
    optimizer,
    report,
)


def loader(case: Case) -> DataLoader:
    transform = v2.Compose(
        [
            v2.PILToTensor(),
            v2.RandomHorizontalFlip(FLIP),
            v2.RandomVerticalFlip(FLIP),
            v2.RandomErasing(ERASE),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    return DataLoader(
        _images(case.folder, transform, case),
        batch_size=case.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=case.workers,
        persistent_workers=case.workers > 0,
        pin_memory=case.device == "cuda",
    )


@torch.no_grad()
def accuracy(model: nn.Module, case: Case) -> float | None:
    """The share of the images in ``case.test_folder`` that ``model`` is right about, if there are
    any."""
    if not case.test_folder:
        return None
    to_floats = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])
    data = _images(case.test_folder, to_floats, case)
    model.eval()
    right = 0
    for pixels, targets in DataLoader(data, batch_size=512):
        right += int((model(pixels.to(case.device)).argmax(dim=1).cpu() == targets).sum())
    return right / len(data)


def _images(folder: str, transform: v2.Compose, case: Case) -> ImageFolder:
    return ImageFolder(folder, transform, loader=_open_grey if case.channels == 1 else _open)


def _open(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _open_grey(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("L")


def main() -> None:
    case = asked()
    batches, model = loader(case), network(case)
    updates, schedule = optimizer(model, case)
    layout = torch.channels_last if case.channels_last else torch.contiguous_format
    for _ in range(case.epochs):
        start, images = time.perf_counter(), 0
        correct = torch.zeros((), dtype=torch.int64, device=case.device)
        total = torch.zeros((), device=case.device)
        for pixels, targets in batches:
            inputs = pixels.to(case.device, non_blocking=True, memory_format=layout)
            wanted = targets.to(case.device, non_blocking=True)
            with torch.autocast(case.device, torch.bfloat16, enabled=case.amp):
                logits = model(inputs)
                loss = functional.cross_entropy(logits, wanted, label_smoothing=LABEL_SMOOTHING)
            updates.zero_grad(set_to_none=True)
            loss.backward()
            updates.step()
            schedule.step()
            total += loss.detach() * len(targets)
            correct += (logits.argmax(dim=1) == wanted).sum()
            images += len(targets)
        total.item(), correct.item()  # what a training prints after an epoch
        seconds = time.perf_counter() - start
    report(images, seconds, accuracy(model, case))


if __name__ == "__main__":
    main()
