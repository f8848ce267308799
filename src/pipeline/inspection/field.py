"""Which pixels of the image each number of a feature map can depend on.

A `Field` goes along with a tensor of the network, element by element: the first and last row and
column of the pixels that the element sees, and how many pixels its neighbours are apart (the jump).
Every operation on the tensor becomes one on its field: a view the same view, a sum of two branches
the union, a window the union over the window. So branches, concatenations and attention need no
formula of their own, and a chain of windows gives what the recurrence of Araujo, Norris and Sim
gives (Computing Receptive Fields of Convolutional Neural Networks, Distill, 2019).

Fields are not cut off at the border of the image: padding continues the grid, so that the size of a
field is the one that papers state, also where it is larger than the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor

NOTHING = float("inf")
"""What a constant sees: the neutral element of the union."""

_LARGE = 1 << 14
"""Numbers of a part from which it pays to look for equal ones."""


@dataclass(frozen=True, eq=False)
class Field:
    """Six float32 tensors on the CPU, each of the shape of the tensor described.

    They are top, -bottom, left, -right, jump of rows, jump of columns: in this form the smaller of
    two values is their union in all six. A jump of 0 stands for elements that have mixed positions
    of the whole map; NaN for what is not known.
    """

    parts: tuple[Tensor, ...]

    @property
    def shape(self) -> torch.Size:
        return self.parts[0].shape

    def each(self, change: Callable[[Tensor], Tensor]) -> Field:
        """The field of a tensor that was only rearranged."""
        return Field(tuple(map(change, self.parts)))

    @cached_property
    def reach(self) -> Reach:
        """Of the middle position, for all channels together."""
        field = self
        for dim in range(len(self.shape)):
            along = [bool(found.any()) for found in moved(field, (dim,))]
            if any(along):
                field = _at_middle(field, dim, along)
        ends = [float(_one_of_equals(part).amin()) for part in field.parts]
        top, bottom, left, right = ends[0], -ends[1], ends[2], -ends[3]
        return Reach(top, bottom, left, right, (ends[4], ends[5]), all(map(math.isfinite, ends)))

    def simplified(self) -> Field:
        """The same, with memory for one element along dimensions in which all are equal."""
        if max(math.prod(_one_of_equals(part).shape) for part in self.parts) < _LARGE:
            return self
        return self.each(_simplified)


@dataclass(frozen=True)
class Reach:
    """What the middle element of a map sees of an image, in pixels that may lie outside of it."""

    top: float
    bottom: float
    left: float
    right: float
    jump: tuple[float, float]
    """Between neighbours, in (rows, columns); 0 where every element sees the same."""
    known: bool = True

    @property
    def size(self) -> tuple[int, int]:
        """Of the receptive field, in (rows, columns)."""
        return round(self.bottom - self.top) + 1, round(self.right - self.left) + 1

    def covers(self, side: int) -> bool:
        """Whether it is the whole of an image of this side, for whichever element."""
        sees_all = min(self.bottom, self.right) >= side - 1 and max(self.top, self.left) <= 0
        return self.known and max(self.jump) == 0 and sees_all


def _simplified(part: Tensor) -> Tensor:
    small = _one_of_equals(part)
    for dim in sorted(range(part.ndim), key=lambda d: -small.shape[d]):
        first = small.narrow(dim, 0, min(1, small.shape[dim]))
        if small.shape[dim] > 1 and bool((small == first).all()):
            small = first
    return small.expand(part.shape)


def of_image(shape: Sequence[int]) -> Field:
    """The field of an image (N, C, H, W): each element sees itself."""
    rows = torch.arange(shape[2], dtype=torch.float32)[:, None].expand(shape)
    columns = torch.arange(shape[3], dtype=torch.float32).expand(shape)
    one = torch.ones(()).expand(shape)
    return Field((rows, -rows, columns, -columns, one, one))


def nothing(shape: Sequence[int]) -> Field:
    """The field of a constant."""
    return Field((torch.tensor(NOTHING).expand(shape),) * 6)


def unknown(shape: Sequence[int]) -> Field:
    """The field of what no rule describes; it makes unknown what depends on it."""
    return Field((torch.tensor(float("nan")).expand(shape),) * 6)


def union(fields: Sequence[Field], shape: Sequence[int]) -> Field:
    """Of an element-wise operation whose result has this shape."""
    if len(fields) == 1 and fields[0].shape == shape:
        return fields[0]
    parts = []
    for tensors in zip(*(field.parts for field in fields), strict=True):
        least = reduce(torch.minimum, (_one_of_equals(part.expand(shape)) for part in tensors))
        parts.append(least.expand(shape))
    return Field(tuple(parts))


def _one_of_equals(part: Tensor) -> Tensor:
    """Size 1 in the dimensions along which memory says that nothing changes."""
    for dim, step in enumerate(part.stride()):
        if step == 0:
            part = part.narrow(dim, 0, min(1, part.shape[dim]))
    return part


def moved(field: Field, along: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Whether rows, and whether columns, of the map lie along these dimensions, kept with size 1.

    The branches of a concatenation see different areas around one place; positions see different
    places, at least a jump apart.
    """
    found, dims = [], tuple(along)
    for first, last, jump in ((0, 1, 4), (2, 3, 5)):
        parts = [_one_of_equals(field.parts[i]) for i in (first, last, jump)]
        centre = parts[0] - parts[1]  # twice the middle; constants have none
        constant = parts[0].isinf().expand_as(centre)
        furthest = centre.masked_fill(constant, -NOTHING).amax(dims, keepdim=True)
        nearest = centre.masked_fill(constant, NOTHING).amin(dims, keepdim=True)
        step = parts[2].amin(dims, keepdim=True).clamp(min=1.0)
        found.append(furthest - nearest >= 2.0 * step)
    return found[0], found[1]


def mixed(field: Field, dims: Sequence[int]) -> Field:
    """Of a reduction over ``dims``, which are kept with size 1.

    Where they held rows of the map and the result has none left, its jump of rows is 0.
    """
    if not dims:
        return field
    dims = [dim % len(field.shape) for dim in dims]
    left = [dim for dim in range(len(field.shape)) if dim not in dims]
    parts = [_one_of_equals(part).amin(tuple(dims), keepdim=True) for part in field.parts]
    shape = [1 if dim in dims else size for dim, size in enumerate(field.shape)]
    least = Field(tuple(part.expand(shape) for part in parts))
    reduced, still = moved(field, dims), moved(least, left)
    for jump, gone, there in zip((4, 5), reduced, still, strict=True):
        parts[jump] = torch.where(gone & ~there.any(), 0.0, parts[jump]).expand(shape)
    return Field(tuple(part.expand(shape) for part in parts))


def padded(field: Field, dim: int, before: int, after: int) -> Field:
    """With elements before and after those along ``dim`` that go on as these do; negative: fewer.

    A map of one position goes on by its jump; its rows are then dimension 2 and its columns 3.
    """
    if before == after == 0:
        return field
    parts = []
    for i, part in enumerate(field.parts):
        low, high = _steps(field, i, dim)
        pieces = [part.narrow(dim, 0, 1) - step * low for step in range(before, 0, -1)]
        start = max(-before, 0)
        pieces.append(part.narrow(dim, start, part.shape[dim] - start - max(-after, 0)))
        pieces += [part.narrow(dim, -1, 1) + step * high for step in range(1, after + 1)]
        parts.append(
            torch.cat(
                [piece.expand(_with(part.shape, dim, piece.shape[dim])) for piece in pieces], dim
            )
        )
    return Field(tuple(parts))


def _steps(field: Field, i: int, dim: int) -> tuple[Tensor, Tensor]:
    """By how much part ``i`` changes from one element to the next, at both ends of ``dim``."""
    part = field.parts[i]
    if part.shape[dim] > 1:
        steps = [
            part.narrow(dim, start + 1, 1) - part.narrow(dim, start, 1)
            for start in (0, part.shape[dim] - 2)
        ]
    else:
        own = {2: (0, 1), 3: (2, 3)}.get(dim, ())
        jump = field.parts[4 if dim == 2 else 5]
        step = jump * (1 if i % 2 == 0 else -1) if i in own else torch.zeros(())
        steps = [step, step]
    # Constants lie beside positions where a part is inf; going on by inf - inf would be NaN.
    still = part.isinf().any(dim, keepdim=True)
    low, high = (torch.where(still, torch.zeros(()), step) for step in steps)
    return low, high


def _with(shape: Sequence[int], dim: int, size: int) -> list[int]:
    return [size if i == dim else n for i, n in enumerate(shape)]


@dataclass(frozen=True)
class Window:
    """A window that moves over the last two dimensions of a tensor, each as (rows, columns)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    def output_size(self, size: int, axis: int = 0) -> int:
        """Positions along an axis of ``size``: (I + 2P - K) / S + 1, K being the dilated kernel."""
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (size + 2 * self.padding[axis] - reach) // self.stride[axis] + 1

    def padding_of(self, field: Field, output: Sequence[int] | None = None) -> Field:
        """(N, C, H, W) with its padding, and as much more as ``output`` positions need."""
        for axis, dim in ((0, 2), (1, 3)):
            before = after = self.padding[axis]
            if output is not None:
                reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
                after = (output[axis] - 1) * self.stride[axis] + reach
                after -= field.shape[dim] + before  # negative where the last do not fit
            field = padded(field, dim, before, after)
        return field

    def over(self, field: Field, output: Sequence[int]) -> Field:
        """(N, C, H, W) -> the field of the windows, (N, C, *output)."""
        field = self.padding_of(field.each(_one_channel), output)
        parts = [
            -F.max_pool2d(-part.contiguous(), self.kernel, self.stride, 0, self.dilation)
            for part in field.parts
        ]
        parts[4], parts[5] = parts[4] * self.stride[0], parts[5] * self.stride[1]
        return Field(tuple(parts))


def _one_channel(part: Tensor) -> Tensor:
    """One channel for all, where memory says that they are equal."""
    return part.narrow(1, 0, 1) if part.stride(1) == 0 else part


def _at_middle(field: Field, dim: int, along: Sequence[bool]) -> Field:
    """The middle element along ``dim``.

    Its jump is measured where rows alone, or columns alone, lie there: views may have changed it.
    """
    middle = (field.shape[dim] - 1) // 2
    parts = [part.narrow(dim, middle, 1) for part in field.parts]
    for axis, lies_along in enumerate(along):
        first, jump = field.parts[2 * axis], 4 + axis
        step = first.narrow(dim, middle + 1, 1) - first.narrow(dim, middle, 1)
        if lies_along and sum(along) == 1:
            measured = (parts[jump] > 0) & (step > 0)
            parts[jump] = torch.where(measured, step, parts[jump])
    return Field(tuple(parts))
