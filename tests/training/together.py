"""What each of several processes does in the tests of them; run as ``-m tests.training.together``.

One process alone may `observe` the same, for the tests to compare with.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from pipeline.data.pack import Packed
from pipeline.params import load
from pipeline.training import fit
from pipeline.training.checkpoint import hold, snapshot
from pipeline.training.distributed import Ranks
from pipeline.training.environment import reproducible
from pipeline.training.launch import join
from pipeline.training.loop import Trainer
from pipeline.training.plan import Plan
from pipeline.training.task import Task, build_network, build_splits
from pipeline.vision.augmentation import build_policy
from tests.training.ending import Ended

BATCHES = {"even": range(16), "odd": range(20, 27), "three": [5, 9, 2], "pair": [1, 0]}
"""Positions in the train split. Of the last two, not every process gets an image."""


def without_norm() -> nn.Module:
    """Whose gradients are sums over images, which a batch norm's are not."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=4), nn.GELU(), nn.Flatten(), nn.Linear(4 * 49, 2)
    )


def task_of(root: Path) -> Task:
    params = load(root / "params.yaml")
    return Task(
        "tiny",
        params.variant("tiny"),
        policy=build_policy(params.augment.policy, where="augment.policy"),
        packed=Packed.load(root / "artifacts" / "packed"),
        device=torch.device("cpu"),
    )


def observe(task: Task, ranks: Ranks) -> dict[str, Tensor]:
    """What this process has after steps, epochs and a validation, by name."""
    train, val = build_splits(task)

    def build(model: nn.Module) -> Trainer:
        plan = Plan("float32", 1)
        return Trainer(model, task.settings, plan, task.policy, train=train, val=val, ranks=ranks)

    seen: dict[str, Tensor] = {}
    for name, batch in BATCHES.items():
        trainer = build(without_norm())
        loss, hits = trainer.step(torch.tensor(batch), 0)
        seen[f"{name}/loss"], seen[f"{name}/hits"] = loss, ranks.total(hits.sum())
        seen[f"{name}/gradients"] = _flat(p.grad for p in trainer.model.parameters())
    seen |= _observe_nan(build(without_norm()), ranks)

    trainer = build(without_norm())
    seen["epoch"] = torch.tensor(trainer.train_epoch(0), dtype=torch.float64)
    seen["validated"] = torch.tensor(trainer.validate(), dtype=torch.float64)
    trainer = build(build_network(task))
    taken: list[Tensor] = []
    trainer.train.images.take, take = (  # type: ignore[method-assign]
        lambda positions: (taken.append(positions), take(positions))[1],
        trainer.train.images.take,
    )
    trainer.train_epoch(0)
    seen["taken"] = torch.cat(taken)
    seen["state"] = _flat(t.float() for t in trainer.model.state_dict().values())
    seen["optimizer"] = _flat(trainer.optimizer.state().values())
    return seen


def _observe_nan(trainer: Trainer, ranks: Ranks) -> dict[str, Tensor]:
    """A step in which the last process alone meets a number that is none."""
    policy, before = trainer.feed.policy, _flat(trainer.model.parameters())

    def broken(images: Tensor, keys: Tensor, **when: Any) -> Tensor:
        return policy(images, keys, **when) * (torch.nan if ranks.rank == ranks.size - 1 else 1.0)

    trainer.feed.policy = broken  # type: ignore[assignment]
    loss, _ = trainer.step(torch.arange(16), 0)
    return {"nan/loss": loss, "nan/moved": _flat(trainer.model.parameters()) - before}


def _flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def resume(task: Task, ranks: Ranks, folder: Path) -> dict[str, Tensor]:
    """The weights of an undisturbed training, and of one that ended after its second epoch."""
    fit.SAVE_EVERY = 0.0

    def train(name: str) -> Tensor:
        with hold(folder / name) if ranks.first else nullcontext() as checkpoints:
            fitted = fit.fit(task, checkpoints, plans=folder, ranks=ranks)
        return _flat(tensor.float() for tensor in snapshot(fitted.network).values())

    undisturbed = train("undisturbed")
    train_epoch = Trainer.train_epoch

    def end_third(self: Trainer, epoch: int, **kwargs: Any) -> tuple[float, float]:
        if epoch == 2:
            raise Ended
        return train_epoch(self, epoch, **kwargs)

    Trainer.train_epoch = end_third  # type: ignore[method-assign]
    with suppress(Ended):
        train("ended")
    Trainer.train_epoch = train_epoch  # type: ignore[method-assign]
    return {"undisturbed": undisturbed, "resumed": train("ended")}


def main() -> None:
    what, root, folder = sys.argv[1], *map(Path, sys.argv[2:])
    with join(torch.device("cpu")) as ranks, reproducible(torch.device("cpu")):
        task = task_of(root)
        seen = observe(task, ranks) if what == "observe" else resume(task, ranks, folder)
        seen = {name: tensor.detach().clone().contiguous() for name, tensor in seen.items()}
        safetensors.torch.save_file(seen, folder / f"{ranks.rank}.safetensors")


if __name__ == "__main__":
    main()
