"""Muon is PyTorch's where PyTorch has it, and AdamW where its authors say so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.training import muon
from pipeline.training.optimizer import build_optimizer, guarded_step
from pipeline.vision.models import build

needs_torchs = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch below 2.9")
LR, DECAY = 0.05, 2.0


def net_of_matrices() -> nn.Module:
    """Between its first layer and its head: two equal matrices, a tall one and a wide one."""
    torch.manual_seed(0)
    sizes = [(64, 12), (12, 12), (12, 12), (12, 30), (30, 7), (7, 2)]
    layers = [nn.Linear(before, after) for before, after in sizes]
    return nn.Sequential(nn.Flatten(), *[part for layer in layers for part in (layer, nn.Tanh())])


def updated_by_both(steps: int = 4) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The net as it was, as ours makes it and as PyTorch's Muon and AdamW make it."""
    before, ours, theirs = net_of_matrices(), net_of_matrices(), net_of_matrices()
    optimizer = build_optimizer(ours, name="muon", lr=LR, momentum=0.9, weight_decay=DECAY)
    hidden = [theirs[i].weight for i in (3, 5, 7, 9)]
    rest = [p for p in theirs.parameters() if all(p is not h for h in hidden)]
    matrices = torch.optim.Muon(
        hidden, lr=LR, momentum=0.9, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"
    )
    others = torch.optim.AdamW(
        [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": DECAY},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=LR,
        betas=(0.9, 0.999),
    )
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        guarded_step(optimizer, torch.tensor(1.0), max_norm=None)
        matrices.step()
        others.step()
    return before, ours, theirs


@needs_torchs
def test_all_but_the_iteration_is_that_of_torch(monkeypatch):
    def scaled(matrix: torch.Tensor, *_: object) -> torch.Tensor:
        return matrix / matrix.norm()

    monkeypatch.setattr("torch.optim._muon._zeropower_via_newtonschulz", scaled)
    monkeypatch.setattr(muon, "orthogonal", lambda stack: torch.stack([*map(scaled, stack)]))
    _, ours, theirs = updated_by_both()
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5)


@needs_torchs
def test_updates_are_those_of_torch_but_for_its_bfloat16():
    before, ours, theirs = updated_by_both(steps=1)
    for start, mine, reference in zip(
        *(list(net.parameters()) for net in (before, ours, theirs)), strict=True
    ):
        difference = (mine - reference).norm() / (reference - start).norm()
        assert difference < 0.1


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 5, 40), (2, 40, 5), (1, 1, 9)])
def test_the_iteration_is_the_published_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = muon.orthogonal(matrices)
    for matrix, orthogonal in zip(matrices.double().numpy(), found, strict=True):
        x = matrix / np.linalg.norm(matrix)
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        np.testing.assert_allclose(orthogonal.numpy(), x, atol=2e-5)
        assert (np.abs(np.linalg.svd(x)[1] - 1) < 0.4).all()


def test_a_matrix_without_a_gradient_is_left_in_peace():
    assert torch.equal(muon.orthogonal(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


@pytest.mark.parametrize("model", ["small_cnn", "torchvision:resnet18", "timm:regnetx_002"])
def test_norms_the_first_convolution_and_the_head_are_adamws(model):
    classifier = build(
        model,
        channels=1,
        num_classes=3,
        image_size=32,
        architecture={},
        mean=[0.5],
        std=[0.2],
    )
    optimizer = build_optimizer(classifier, name="muon", lr=0.1, momentum=0.9, weight_decay=0.1)
    stacks = [group for group in optimizer.groups if isinstance(group, muon.Stack)]
    by_muon = {id(p) for stack in stacks for p in stack.parameters}
    names = [name for name, p in classifier.named_parameters() if id(p) not in by_muon]
    matrices = [name for name in names if classifier.get_parameter(name).ndim > 1]
    assert len(matrices) == 2  # the first and the last
    parameters = [p for group in optimizer.groups for p in group.parameters]
    assert sorted(map(id, parameters)) == sorted(map(id, classifier.parameters()))
    shapes = [p.flatten(1).shape for stack in stacks for p in stack.parameters]
    assert len(stacks) == len(set(shapes)) < len(shapes)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_gives_nearly_orthogonal_matrices_too():
    matrices = torch.randn(3, 64, 200, device="cuda")
    values = torch.linalg.svdvals(muon.orthogonal(matrices))
    assert ((values > 0.5) & (values < 1.4)).all()
