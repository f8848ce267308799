"""What windows over a map do to its field: convolutions, poolings, patches, borders."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor

from pipeline.inspection.call import Call
from pipeline.inspection.field import Field, Window, padded, unknown


def convolution(call: Call) -> Sequence[Field]:
    field, weight = call.field("input"), call.values["weight"]
    window = call.window()
    if call.values["transposed"] or len(call.shape) not in (3, 4):
        return [unknown(call.shape)]
    if window is None:  # over one dimension, such as that of channels
        kernel, stride = ((1, int(n)) for n in (weight.shape[2], call.values["stride"][0]))
        window = Window(
            kernel, stride, (0, call.values["padding"][0]), (1, call.values["dilation"][0])
        )
        field = field.each(lambda part: part.unsqueeze(2))
    output = [*call.shape[:2], 1, call.shape[-1]] if len(call.shape) == 3 else call.shape
    groups = call.values["groups"]
    field = field.each(lambda part: _channels_mixed(part, groups, call.shape[1]))
    seen = window.over(field, output[2:])
    return [seen.each(lambda part: part.expand(output).reshape(call.shape))]


def _channels_mixed(part: Tensor, groups: int, outputs: int) -> Tensor:
    """(N, C, h, w) -> (N, outputs, h, w), or one channel for all where they are equal."""
    if groups == 1 or part.stride(1) == 0:
        return part.amin(1, keepdim=True).expand(-1, outputs, -1, -1)
    count, _, height, width = part.shape
    grouped = part.reshape(count, groups, -1, height, width).amin(2)
    return grouped.repeat_interleave(outputs // groups, dim=1)


def pooling(call: Call) -> Sequence[Field]:
    window = call.window()
    if window is None or len(call.shape) != 4:
        return [unknown(result.shape) for result in call.results]
    seen = window.over(call.field("self"), call.shape[2:])
    return [seen.each(lambda part: part.expand(call.shape))] * len(call.results)


def pooling_of_channels(call: Call) -> Sequence[Field]:
    """Of (N, 1, C, H, W), as local response normalisation does it; other windows are unknown."""
    kernel = call.values["kernel_size"]
    if tuple(kernel[1:]) != (1, 1) or any(call.values["padding"]):
        return [unknown(result.shape) for result in call.results]
    field = call.field("self")
    return [field.each(lambda part: -F.max_pool3d(-part.contiguous(), kernel, stride=1))]


def patches(call: Call) -> Sequence[Field]:
    """(N, C, H, W) -> (N, C times the window, positions)."""
    window = call.window()
    if window is None:
        return [unknown(call.shape)]
    field = window.padding_of(call.field("self"))
    parts = [
        F.unfold(part.contiguous(), window.kernel, window.dilation, 0, window.stride)
        for part in field.parts
    ]
    parts[4], parts[5] = parts[4] * window.stride[0], parts[5] * window.stride[1]
    return [Field(tuple(parts))]


def adaptive_pooling(call: Call) -> Sequence[Field]:
    field, size = call.field("self"), call.shape[-2:]
    jumps = [n / max(m, 1) for n, m in zip(field.shape[-2:], size, strict=True)]
    parts = [-F.adaptive_max_pool2d(-part, tuple(size)) for part in field.parts]
    for jump, by, positions in zip((4, 5), jumps, size, strict=True):
        parts[jump] = parts[jump] * (0.0 if positions == 1 and by > 1 else by)
    return [Field(tuple(parts))] * len(call.results)


def enlarged(call: Call) -> Sequence[Field]:
    """The nearest of the elements; neighbours are as many times nearer to each other."""
    field = call.field("self" if "self" in call.values else "input")
    by = [new / old for new, old in zip(call.shape[2:], field.shape[2:], strict=True)]
    parts = [F.interpolate(part, size=tuple(call.shape[2:])) for part in field.parts]
    parts[4], parts[5] = parts[4] / by[0], parts[5] / by[1]
    return [Field(tuple(parts))]


def padding(call: Call) -> Sequence[Field]:
    """Also where the border is mirrored or repeated: the grid goes on all the same."""
    amounts = call.values["pad" if "pad" in call.values else "padding"]
    field = call.field("self")
    for i in range(0, len(amounts), 2):
        dim = len(field.shape) - 1 - i // 2
        field = padded(field, dim, amounts[i], amounts[i + 1])
    return [field]
