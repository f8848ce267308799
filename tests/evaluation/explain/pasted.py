"""Images whose reason is known: noise, and a striped patch whose stripes say the class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.vision.models import Classifier, build

SIDE, PATCH = 32, 10


@dataclass(frozen=True)
class Pasted:
    images: Tensor
    """(N, 1, SIDE, SIDE) in [0, 1]."""
    targets: Tensor
    """(N,) 0: lying stripes, 1: standing ones."""
    masks: Tensor
    """(N, 1, SIDE, SIDE): exactly where the patch is."""


def make_pasted(count: int, *, seed: int, device: str = "cpu") -> Pasted:
    generator = torch.Generator().manual_seed(seed)
    images = 0.5 + 0.12 * torch.randn(count, 1, SIDE, SIDE, generator=generator)
    targets = torch.randint(2, (count,), generator=generator)
    stripes = (torch.arange(PATCH) // 2 % 2).float().expand(PATCH, PATCH)
    masks = torch.zeros(count, 1, SIDE, SIDE, dtype=torch.bool)
    corners = torch.randint(SIDE - PATCH + 1, (count, 2), generator=generator)
    for i, (top, left) in enumerate(corners.tolist()):
        place = (i, 0, slice(top, top + PATCH), slice(left, left + PATCH))
        images[place] = 0.2 + 0.6 * (stripes if targets[i] else stripes.T)
        masks[place] = True
    return Pasted(images.clamp(0, 1).to(device), targets.to(device), masks.to(device))


def make_network(*, width: int = 8) -> Classifier:
    torch.manual_seed(0)
    return build(
        "small_cnn",
        channels=1,
        num_classes=2,
        image_size=SIDE,
        architecture={"width": width},
        mean=(0.5,),
        std=(0.2,),
    )


def fit(network: nn.Module, data: Pasted, *, steps: int, seed: int = 0) -> None:
    """Plain training, in seconds."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.005, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    network.train()
    for _ in range(steps):
        chosen = torch.randint(len(data.targets), (64,), generator=generator)
        chosen = chosen.to(data.targets.device)
        loss = functional.cross_entropy(network(data.images[chosen]), data.targets[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()


def accuracy(network: nn.Module, data: Pasted) -> float:
    with torch.no_grad():
        return float((network(data.images).argmax(dim=1) == data.targets).float().mean())
