"""timm's loader and the fast flags of its training script: channels last, bfloat16.

``python timm_loop.py CASE`` prints the images per second of the last epoch.
"""

from __future__ import annotations

import time

import torch
from timm.data import create_dataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy

from benchmarks.loops.case import FLIP, LABEL_SMOOTHING, asked, network, optimizer, report


def main() -> None:
    case = asked()
    data = create_dataset("", root=case.folder, is_training=True)
    batches = create_loader(
        data,
        input_size=(3, case.side, case.side),  # its transforms are for three channels
        batch_size=case.batch_size,
        is_training=True,
        use_prefetcher=case.device == "cuda",
        no_aug=False,
        scale=(1.0, 1.0),
        ratio=(1.0, 1.0),
        hflip=FLIP,
        vflip=FLIP,
        color_jitter=None,
        re_prob=0.1,
        interpolation="bilinear",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        num_workers=case.workers,
        persistent_workers=case.workers > 0,
        use_multi_epochs_loader=case.workers > 0,
        pin_memory=case.device == "cuda",
        device=torch.device(case.device),
    )
    model = network(case)
    updates, schedule = optimizer(model, case)
    criterion = LabelSmoothingCrossEntropy(LABEL_SMOOTHING)
    for _ in range(case.epochs):
        start, images = time.perf_counter(), 0
        total = torch.zeros((), device=case.device)
        for pixels, targets in batches:
            inputs = pixels[:, : case.channels].to(
                case.device, non_blocking=True, memory_format=torch.channels_last
            )
            wanted = targets.to(case.device, non_blocking=True)
            with torch.autocast(case.device, torch.bfloat16, enabled=case.amp):
                loss = criterion(model(inputs), wanted)
            updates.zero_grad(set_to_none=True)
            loss.backward()
            updates.step()
            schedule.step()
            total += loss.detach() * len(targets)
            images += len(targets)
        total.item()  # what a training prints after an epoch
        seconds = time.perf_counter() - start
    report(images, seconds)


if __name__ == "__main__":
    main()
