"""The weights that a training begins with: from elsewhere, or learned here without labels.

What is learned here is a training of its own, or several, with checkpoints and a journal, whose
identity holds neither the variant's name nor what only its classifier is trained with: variants
that differ in these alone share it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
import torch
from torch import Tensor

from pipeline.console import logger
from pipeline.params import Policy, VariantParams
from pipeline.training.checkpoint import (
    CheckpointFolder,
    hold,
    prune,
    snapshot,
    training_key,
)
from pipeline.training.distributed import Ranks
from pipeline.training.environment import reproducible
from pipeline.training.fit import Fitted, fit, training_code
from pipeline.training.history import best_epoch, rows
from pipeline.training.pretraining import autoencoder, rbm
from pipeline.training.pretraining.unlabelled import Learn, UnlabelledTask
from pipeline.training.task import Task, pretrained_weights
from pipeline.vision import models
from pipeline.vision.models import Classifier
from pipeline.vision.models.autoencoder import autoencoder as make_autoencoder
from pipeline.vision.models.pretrained import Pretrained
from pipeline.workspace import Workspace

METHODS: dict[str, Callable[[Task, Any, Learn], dict[str, Tensor]]] = {
    "autoencoder": autoencoder.pretrain,
    "rbm": rbm.pretrain,
}
"""By the sections of ``pretraining`` in ``params.yaml``, which each is given as its second."""

OWN_CODE = ("autoencoder.py", "rbm.py", "blocks/convolution.py")
FOLDER = "pretraining"
"""Inside the variant's model folder."""


@dataclass(frozen=True)
class FirstWeights:
    """What a classifier's training begins with."""

    weights: Pretrained | None
    """None: drawn at random."""
    files: dict[str, bytes] = field(default_factory=dict)
    """What the model's folder keeps of a pretraining, by path: the weights, by the names that the
    classifier's network has for them, and the history."""


def first_weights(
    workspace: Workspace, start: Task, policy: Policy, *, ranks: Ranks
) -> FirstWeights:
    """What ``pretrained`` names or ``pretraining`` learns for the variant of ``start``.

    Args:
        workspace: where checkpoints and measured plans lie.
        start: the variant's training, without these weights.
        policy: its augmentation, as ``params.yaml`` describes it.
        ranks: the processes that train together, each of which calls this.

    Raises:
        ConfigurationError: there are no such weights, or the network cannot be pretrained so.
        PipelineError: a training diverged, or a batch does not fit into the GPU's memory.
    """
    settings = start.settings
    if settings.pretraining is None:
        return FirstWeights(pretrained_weights(settings, root=workspace.root, where=start.where))
    learning = _Learning(workspace, start.variant, policy, ranks)
    method = settings.pretraining.method
    learned = METHODS[method](start, getattr(settings.pretraining, method), learning)
    weights = {name: tensor.cpu().clone().contiguous() for name, tensor in learned.items()}
    return FirstWeights(
        Pretrained(f"pretraining.{method}", weights),
        {
            f"{FOLDER}/weights.safetensors": safetensors.torch.save(weights),
            f"{FOLDER}/history.csv": learning.history().encode(),
        },
    )


def check_pretraining(settings: VariantParams, *, where: str) -> None:
    """Check that the variant's network can be pretrained as its settings say.

    Raises:
        ConfigurationError: it cannot.
    """
    if settings.pretraining is None or settings.pretraining.autoencoder is None:
        return  # of Boltzmann machines `params` knows all
    own = not models.libraries(settings.model, settings.architecture)
    with torch.device("meta") if own else torch.random.fork_rng(devices=[]):
        classifier = models.build(
            settings.model,
            channels=1,
            num_classes=2,
            image_size=settings.image_size,
            architecture=settings.architecture,
            mean=[0.5],
            std=[0.5],
            where=where,
        )
        make_autoencoder(classifier, image_size=settings.image_size, masking=0.0, where=where)


class _Learning:
    """Trains what a method asks for; it is called as `Learn` is."""

    def __init__(self, workspace: Workspace, variant: str, policy: Policy, ranks: Ranks) -> None:
        self._workspace, self._variant = workspace, variant
        self._policy, self._ranks = policy, ranks
        self._epochs = list[dict[str, Any]]()

    def __call__(self, task: UnlabelledTask) -> Classifier:
        described = {
            **task.settings.model_dump(mode="json", exclude={"profile"}),
            "policy": self._policy,
            "processes": self._ranks.size,
            "phase": task.phase,
        }
        code = [
            *training_code(task.settings),
            *sorted(Path(__file__).parent.glob("*.py")),
            *(Path(models.__file__).parent / name for name in OWN_CODE),
        ]
        key = training_key(FOLDER, described, data_digest=task.packed.digest, code=code)
        self._ranks.require_same(key)
        if self._ranks.first:
            fitted = self._recorded(task, key, described)
        else:
            fitted = self._fit(task, None)
        best = best_epoch(fitted.history)
        logger.info("%s: kept %s (of %d)", task.variant, best, len(fitted.history))
        self._epochs += [{"phase": task.phase, **row} for row in rows(fitted.history)]
        return fitted.network

    def _recorded(self, task: UnlabelledTask, key: str, described: Mapping[str, Any]) -> Fitted:
        """As the process that writes. Another one that learns the same is waited for."""
        from pipeline.tracking import mirror

        checkpoints = self._workspace.checkpoints
        with (
            hold(checkpoints / key, patience=math.inf) as folder,
            mirror(
                self._workspace,
                folder.journal,
                run_name=task.variant,
                training_key=key,
                params=described,
                tags={"variant": self._variant, "data_digest": task.packed.digest},
            ) as run,
        ):
            prune(checkpoints)
            fitted = self._fit(task, folder)
            run.finish(Pretrained(task.phase, snapshot(fitted.network)).digest)
        return fitted

    def _fit(self, task: UnlabelledTask, folder: CheckpointFolder | None) -> Fitted:
        with reproducible(task.device):
            return fit(task, folder, plans=self._workspace.state / "plans", ranks=self._ranks)

    def history(self) -> str:
        """All epochs so far, as CSV."""
        return pd.DataFrame(self._epochs).to_csv(index=False, lineterminator="\n")
