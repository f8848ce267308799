"""Several processes that train one network together, each on its part of every batch.

A process alone is a group of one, `ALONE`, whose methods do nothing; so the training loop is one.
Of several, each takes its part of the batch that one process would take whole, and their gradients
are added up to those of the whole batch: same images, same steps, same learning rate. Sums over
floating numbers are the exception to "same": their order differs. What only one process may do
(checkpoints, journal, outputs) is for the `first`.

Statistics of a batch norm are those of a process's own part, averaged over the processes after
each epoch, before anything is validated or saved.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipeline.errors import PipelineError

_RUNNING = (".running_mean", ".running_var")


class ProcessLost(PipelineError):
    """Another process of the same training has ended; that one knows why."""


class Ranks:
    """The processes that train together: this one alone.

    Attributes:
        device: of this process.
        rank: its number, from 0.
        size: how many there are.
    """

    rank = 0
    size = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    @property
    def salt(self) -> tuple[int, ...]:
        """What to add to a seed whose numbers no two processes may share; nothing for the first."""
        return (self.rank,) if self.rank else ()

    def part(self, batch: Tensor) -> Tensor:
        """The rows of ``batch`` that fall to this process; may be none.

        Parts are in the order of the ranks and about equal, and none has a single row unless
        ``batch`` has: a batch norm could do nothing with it.
        """
        return batch

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """All ``count`` rows, in order, of a tensor of which each process has its `part`."""
        del count
        return rows

    def sum_gradients(
        self, parameters: Iterable[nn.Parameter], loss: Tensor, share: float
    ) -> Tensor:
        """Make the gradients those of the whole batch, the same bits in every process.

        Args:
            parameters: those whose ``grad`` is this process's, of the mean over its part; None
                counts as zeros where another process may have some.
            loss: scalar, the mean over its part.
            share: of this part in the batch.

        Returns:
            The mean loss of the whole batch. It is not finite where any process's was not.
        """
        del parameters, share
        return loss

    def total(self, count: Tensor) -> Tensor:
        """The sum of all processes' ``count``."""
        return count

    def average_buffers(self, model: nn.Module) -> None:
        """Give all processes the mean of the batch norms' statistics, and the first's rest."""

    def align(self, model: nn.Module) -> None:
        """Give all processes the first's weights and buffers."""

    def from_first(self, content: bytes) -> bytes:
        """What the first process holds; ``content`` of the others is not looked at."""
        return content

    def require_same(self, key: str) -> None:
        """Check that all processes are about to train the same.

        Args:
            key: of the training, see `training.checkpoint.training_key`.

        Raises:
            PipelineError: the first process's is another.
        """
        if self.from_first(key.encode()) != key.encode():
            raise PipelineError(
                "params.yaml, the packed images, the code or the libraries are not those of the"
                f" first process (this is number {self.rank}); give all machines of a training the"
                " same"
            )


ALONE = Ranks(torch.device("cpu"))


class Group(Ranks):
    """Several processes, joined by an initialised `torch.distributed`."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def part(self, batch: Tensor) -> Tensor:
        start, end = self._bounds(len(batch))
        return batch[start:end]

    def _bounds(self, count: int) -> tuple[int, int]:
        sharing = max(1, min(self.size, count // 2))
        if self.rank >= sharing:
            return count, count
        return count * self.rank // sharing, count * (self.rank + 1) // sharing

    def gather(self, rows: Tensor, count: int) -> Tensor:
        start, end = self._bounds(count)
        # Zeros added to a number change no bit of it; so parts of unequal length need no padding.
        everything = rows.new_zeros((count, *rows.shape[1:]))
        everything[start:end] = rows
        return self.total(everything)

    def sum_gradients(
        self, parameters: Iterable[nn.Parameter], loss: Tensor, share: float
    ) -> Tensor:
        gradients = list[Tensor]()
        for parameter in parameters:
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        loss = loss.clone()
        _joined([*gradients, loss], lambda flat: self._sum(flat.mul_(share)))
        return loss

    def total(self, count: Tensor) -> Tensor:
        return self._sum(count.clone())

    def average_buffers(self, model: nn.Module) -> None:
        running, others = list[Tensor](), list[Tensor]()
        for name, buffer in model.named_buffers():
            (running if name.endswith(_RUNNING) else others).append(buffer)
        _joined(running, lambda flat: self._sum(flat).div_(self.size))
        _joined(others, self._send)

    def align(self, model: nn.Module) -> None:
        _joined(model.state_dict().values(), self._send)

    def from_first(self, content: bytes) -> bytes:
        length = int(self._send(torch.tensor(len(content), device=self.device)))
        sent = torch.empty(length, dtype=torch.uint8)
        if self.first:
            sent = torch.from_numpy(np.frombuffer(content, np.uint8).copy())
        return self._send(sent.to(self.device)).cpu().numpy().tobytes()

    def _sum(self, tensor: Tensor) -> Tensor:
        """``tensor``, replaced by the sum of all processes'."""
        with _others_may_end():
            dist.all_reduce(tensor)
        return tensor

    def _send(self, tensor: Tensor) -> Tensor:
        """``tensor``, replaced by the first process's."""
        with _others_may_end():
            dist.broadcast(tensor, src=0)
        return tensor


@torch.no_grad()
def _joined(tensors: Iterable[Tensor], exchange: Callable[[Tensor], Tensor]) -> None:
    """Give ``exchange`` all tensors of a type as one, and take over what it returns.

    A call for each of hundreds of small tensors would take longer than sending them.
    """
    by_type = dict[torch.dtype, list[Tensor]]()
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for group in by_type.values():
        flat = exchange(torch.cat([tensor.flatten() for tensor in group]))
        parts = torch.split(flat, [tensor.numel() for tensor in group])
        shaped = [part.view(tensor.shape) for tensor, part in zip(group, parts, strict=True)]
        torch._foreach_copy_(group, shaped)


@contextlib.contextmanager
def _others_may_end() -> Iterator[None]:
    """Say what a broken connection means."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLost(
            "another process of this training ended or cannot be reached"
            f" ({str(error).strip().partition(chr(10))[0]})"
        ) from error
