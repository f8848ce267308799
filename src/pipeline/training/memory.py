"""What to tell where a batch does not fit into the memory of a GPU: one that does, found by trying.

How much a step needs follows from the network in ways that no formula of ours would catch (kernels
that want room to work in, gradients, what the augmentation holds), so a step is made.
"""

from __future__ import annotations

import torch

from pipeline.errors import PipelineError
from pipeline.training.environment import release_memory
from pipeline.training.plan import Plan
from pipeline.training.task import Task, build_splits


def too_large(task: Task, processes: int) -> PipelineError:
    """The error for ``task``, whose batches, shared by ``processes``, do not fit.

    Call it when what ran out of memory is gone: outside the ``except`` that caught it, which keeps
    all of that alive.
    """
    settings = task.settings
    batch, size = settings.batch_size, settings.image_size
    problem = (
        f"{task.where}: {batch} images of {size}×{size} do not fit into the memory of {task.device}"
    )
    if _fits(task, -(-batch // processes)):
        return PipelineError(
            f"{problem} beside what else is there, though a plain step on them alone does. End"
            " other programs that use it, or set execution: eager or a smaller batch_size"
        )
    smaller = batch // 2
    while smaller >= 2 and not _fits(task, -(-smaller // processes)):
        smaller //= 2
    if smaller < 2:
        return PipelineError(f"{problem}, and no 2 do; set a smaller image_size or network")
    accumulation = settings.gradient_accumulation * -(-batch // smaller)
    return PipelineError(
        f"{problem}; {smaller} do, as a step has shown. Set batch_size: {smaller} and"
        f" gradient_accumulation: {accumulation}, for updates as large as before, or a smaller"
        " image_size"
    )


def _fits(task: Task, images: int) -> bool:
    """Whether a step on so many images does."""
    release_memory(task.device)
    # In float32, which never needs less.
    plan = Plan("float32", torch.get_num_threads())
    try:
        train, val = build_splits(task)
        trainer = task.trainer(
            task.network(), task.settings, plan, task.policy, train=train, val=val
        )
        batch = torch.arange(min(images, len(train)), device=task.device)
        for _ in range(2):  # the optimiser's buffers and the kernels' choice come with the first
            trainer.step(batch, epoch=0)
    except torch.OutOfMemoryError:
        return False
    return True
