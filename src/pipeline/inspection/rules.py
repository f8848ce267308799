"""What each operation of PyTorch does to the fields of its arguments; see `inspection.field`.

Normalisation is taken for a change of scale: that its statistics may come from the whole map is
left out, as it is where receptive fields are published.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.inspection.call import Call, Lookup, tensors_in
from pipeline.inspection.field import Field, mixed, moved, nothing, union, unknown
from pipeline.inspection.window_rules import (
    adaptive_pooling,
    convolution,
    enlarged,
    padding,
    patches,
    pooling,
    pooling_of_channels,
)

Rule = Callable[[Call], Sequence[Field]]


def fields_of_results(call: Call) -> Sequence[Field]:
    """A field for each result, in order; of a call that has an argument with one."""
    rule = RULES.get(call.name.removesuffix("_"))
    if rule is None and torch.Tag.pointwise in call.function.tags:
        rule = elementwise
    elif rule is None and torch.Tag.reduction in call.function.tags:
        rule = reduction
    if rule is None:
        return [unknown(result.shape) for result in call.results]
    return [field.simplified() for field in rule(call)]


def elementwise(call: Call) -> Sequence[Field]:
    return [union(call.fields, call.shape)]


def rearranged(call: Call) -> Sequence[Field]:
    """The same operation on each part of the field."""
    function: Any = _ON_ANY_MEMORY.get(call.name, call.function)
    fields: list[list[Tensor]] = []
    for i in range(6):
        args = [_parts(value, i, call.lookup) for value in call.args]
        kwargs = {
            key: _parts(value, i, call.lookup)
            for key, value in call.kwargs.items()
            if key not in ("dtype", "layout", "device", "pin_memory", "memory_format")
        }
        fields.append(list(tensors_in(function(*args, **kwargs))))
    return [Field(parts) for parts in zip(*fields, strict=True)]


def _parts(value: Any, i: int, lookup: Lookup) -> Any:
    if isinstance(value, Tensor):
        return (lookup(value) or nothing(value.shape)).parts[i]
    if isinstance(value, list | tuple) and any(isinstance(inner, Tensor) for inner in value):
        return [_parts(inner, i, lookup) for inner in value]
    return value


def sliced(call: Call) -> Sequence[Field]:
    """Every so manyth element, or window, is so many jumps from the next."""
    (field,) = rearranged(call)
    step, dim = call.values["step"], call.values["dim" if call.name == "slice" else "dimension"]
    if step == 1:
        return [field]
    parts = list(field.parts)
    for jump, along in zip((4, 5), moved(call.field("self"), [dim]), strict=True):
        parts[jump] = parts[jump] * (step if bool(along.any()) else 1)
    return [Field(tuple(parts))]


def gated(call: Call) -> Sequence[Field]:
    """One half of the channels scales the other."""
    dim = call.values["dim"]
    return [call.field("self").each(lambda part: torch.minimum(*part.chunk(2, dim)))]


def reduction(call: Call) -> Sequence[Field]:
    """Sums, means, maxima and norms."""
    field = next(iter(call.fields))
    named: Any = call.values.get("dim")
    dims = [named] if isinstance(named, int) else named or range(len(field.shape))
    least = mixed(field, list(dims))
    return [
        least.each(lambda part: part.reshape(result.shape))  # noqa: B023 (used at once)
        for result in call.results
    ]


def along_one(call: Call) -> Sequence[Field]:
    """Softmax and its like: every element of a dimension depends on all of it."""
    least = mixed(call.field("self"), [call.values["dim"]])
    return [least.each(lambda part: part.expand(call.shape))] * len(call.results)


def normalised(call: Call) -> Sequence[Field]:
    """Only the first result is as large as the input; the others are statistics."""
    field = next(iter(call.fields))
    others = [unknown(result.shape) for result in call.results[1:]]
    return [field if field.shape == call.shape else unknown(call.shape), *others]


def whole_map(call: Call) -> Sequence[Field]:
    """Of a spectrum, of places that the network chooses, or of what is sampled there."""
    seen = []
    for field in call.fields:
        least = mixed(field, range(1, len(field.shape)))
        seen.append(least.each(lambda part: part.flatten()[0]))
    return [union(seen, result.shape) for result in call.results]


def product(call: Call) -> Sequence[Field]:
    """A product of matrices, batched or not: each row with each column."""
    *added, left, right = call.inputs
    seen = [field for tensor in added if (field := call.lookup(tensor)) is not None]
    for tensor, dim in ((left, -1), (right, -2)):
        if (field := call.lookup(tensor)) is not None:
            seen.append(mixed(field, [dim]))
    return [union(seen, call.shape)]


_ON_ANY_MEMORY = {
    "view": torch.reshape,
    "_unsafe_view": torch.reshape,
    "_reshape_alias": lambda part, size, _stride: part.reshape(size),
}
"""Fields lie in memory as it suits them."""

_NORMS = (
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_with_update",
    "cudnn_batch_norm",
    "native_layer_norm",
    "native_group_norm",
    "_fused_rms_norm",
    "log_sigmoid_forward",
)
_VIEWS = (
    "view",
    "_unsafe_view",
    "_reshape_alias",
    "permute",
    "transpose",
    "t",
    "expand",
    "unsqueeze",
    "squeeze",
    "select",
    "split",
    "split_with_sizes",
    "unbind",
    "cat",
    "stack",
    "clone",
    "alias",
    "detach",
    "roll",
    "flip",
    "repeat",
    "narrow",
    "diagonal",
    "pixel_shuffle",
    "pixel_unshuffle",
    "channel_shuffle",
    "lift_fresh",
    "movedim",
)
_PADDINGS = ("constant_pad_nd", "reflection_pad2d", "replication_pad2d")
_ELEMENTWISE = ("hardswish", "_prelu_kernel", "copy")
_WHOLE_MAP = ("_fft_r2c", "_fft_c2c", "_fft_c2r", "affine_grid_generator", "grid_sampler_2d")
_POOLINGS = ("max_pool2d_with_indices", "avg_pool2d")
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")

CONSTANTS = (
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "rand_like",
    "randn_like",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
    "new_empty_strided",
)
"""What takes the shape of a tensor alone."""

RULES: dict[str, Rule] = {
    **dict.fromkeys(_VIEWS, rearranged),
    **dict.fromkeys(_ELEMENTWISE, elementwise),
    **dict.fromkeys(_WHOLE_MAP, whole_map),
    **dict.fromkeys(_NORMS, normalised),
    **dict.fromkeys(_POOLINGS, pooling),
    **dict.fromkeys(PRODUCTS, product),
    **dict.fromkeys(_PADDINGS, padding),
    **dict.fromkeys(("_adaptive_avg_pool2d", "adaptive_max_pool2d"), adaptive_pooling),
    **dict.fromkeys(
        ("_softmax", "_safe_softmax", "_log_softmax", "cumsum", "sort", "topk"), along_one
    ),
    **dict.fromkeys(("max", "min", "var_mean", "linalg_vector_norm"), reduction),
    **dict.fromkeys(("slice", "unfold"), sliced),
    "glu": gated,
    "im2col": patches,
    "avg_pool3d": pooling_of_channels,
    "convolution": convolution,
    "upsample_nearest2d": enlarged,
}
"""By the operation's name. One that is not here is element-wise or a reduction, if PyTorch calls it
so, and else unknown."""
