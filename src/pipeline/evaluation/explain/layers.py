"""The layers of a network as it runs: their names, their feature maps, their kernels.

Feature maps are (N, K, h, w), also where a network holds them as (N, h, w, K).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from pipeline.evaluation.explain.gradient import CannotExplain, evaluating

Shape = tuple[int, int, int]

_CHANNELS_FIRST = re.compile("conv|(batch|group|instance)_norm|.*pool2d|pixel_|interpolate")
"""Names of functions that are defined for maps (N, K, h, w) alone."""
_MOVING = ("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis")
"""Those of functions that give dimensions another order."""


def feature_layers(model: nn.Module, image: Tensor) -> dict[str, Shape]:
    """The modules that give feature maps of more than one place, and their (K, h, w).

    In the order in which they finish on ``image`` (1, C, H, W); of modules with one and the same
    result, such as a sequence and its last part, the outermost; none that runs more than once.
    """
    names: dict[tuple[int, int], str] = {}
    results: list[Tensor] = []  # kept, so that their identities are no others' later
    runs: Counter[str] = Counter()
    shapes: dict[str, Shape] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, result: Any) -> None:
            axis = channels.axis(result)
            if axis is None:
                return
            count, height, width = result.movedim(axis, 1).shape[1:]
            if height * width == 1:
                return
            runs[name] += 1
            results.append(result)
            # What was changed in place since is another result: a block's sum, not its branch.
            names[id(result), result._version] = name  # noqa: SLF001 (torch names it no other way)
            shapes[name] = (count, height, width)

        return hook

    hooks = {name: note(name) for name, _ in model.named_modules()}
    with _hooked(model, hooks), _Channels(image) as channels:
        _run(model, image)
    return {name: shapes[name] for name in names.values() if runs[name] == 1}


def feature_maps(model: nn.Module, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
    """The feature maps (N, K, h, w) of ``layers``, by names that `feature_layers` gives."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, result: Any) -> None:
            maps = result.movedim(channels.axis(result) or 1, 1)
            found[name] = maps.detach().clone()  # a copy: what comes next may work in place

        return hook

    with _hooked(model, {name: keep(name) for name in layers}), _Channels(images) as channels:
        _run(model, images)
    return found


def channel_axis(model: nn.Module, image: Tensor, layer: str) -> int:
    """The dimension of the feature maps of ``layer`` as it gives them that is K: 1 or 3.

    ``layer`` is one of `feature_layers` on ``image`` (1, C, H, W).
    """
    axes: list[int | None] = []

    def note(_module: nn.Module, _inputs: Any, result: Any) -> None:
        axes.append(channels.axis(result))

    with _hooked(model, {layer: note}), _Channels(image) as channels:
        _run(model, image)
    return axes[0] or 1


def first_kernels(model: nn.Module, image: Tensor) -> Tensor:
    """The kernels of the first convolution that runs, (K, C, h, w).

    Raises:
        CannotExplain: no module that is a convolution runs.
    """
    found: list[nn.Conv2d] = []
    convolutions = {
        name: lambda module, *_: found.append(module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    }
    with _hooked(model, convolutions):
        _run(model, image)
    if not found:
        raise CannotExplain("this network has no convolution, so it has no kernels to show")
    return found[0].weight.detach().clone()


class _Channels(TorchFunctionMode):
    """Follows the dimension of the channels through what is computed from images (N, C, H, W).

    Some functions are defined for (N, K, h, w), some move dimensions, and what keeps the shape
    keeps their order. Of all else the shape tells: the sides of maps are to each other as the
    image's. They are no larger than those before; the products of all places in attention are.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self._images = images.shape
        self._places = images.shape[2:]
        self._axes: Any = WeakIdKeyDictionary({images: 1})

    def axis(self, result: Any) -> int | None:
        """1 or 3; None for what is no feature maps."""
        found = self._axes.get(result) if isinstance(result, Tensor) else None
        return found if found in (1, 3) else None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.ndim == 4 and len(result) == self._images[0]:
            axis = self._axis_of(func, args, kwargs or {}, result.shape)
            self._axes[result] = axis
            if axis in (1, 3) and math.prod(places := result.movedim(axis, 1).shape[2:]) > 1:
                self._places = places
        return result

    def _axis_of(self, func: Any, args: Any, kwargs: Any, shape: torch.Size) -> int | None:
        name, first = getattr(func, "__name__", ""), self._axis_before(args[:1])
        if _CHANNELS_FIRST.match(name):
            return 1
        if name in _MOVING and first is not None:
            sizes = 2, 3, 5, 7  # all different, to be found again
            moved = func(torch.empty(sizes, device="meta"), *args[1:], **kwargs)
            return list(moved.shape).index(sizes[first])
        if name == "linear" and first is not None:
            return first
        alike = [each for each in args if isinstance(each, Tensor) and each.shape == shape]
        return self._axis_before(alike) or self._axis_by(shape)

    def _axis_before(self, tensors: Iterable[Any]) -> int | None:
        axes = (self._axes.get(each) for each in tensors if isinstance(each, Tensor))
        return next((axis for axis in axes if axis is not None), None)

    def _axis_by(self, shape: torch.Size) -> int | None:
        rows, columns = self._images[2:]
        for axis, (height, width) in ((1, shape[2:]), (3, shape[1:3])):
            smaller = height <= self._places[0] and width <= self._places[1]
            if smaller and height * columns == width * rows:
                return axis
        return None


def _run(model: nn.Module, images: Tensor) -> None:
    with torch.no_grad(), evaluating(model):
        model(images)


@contextmanager
def _hooked(model: nn.Module, hooks: dict[str, Callable[..., None]]) -> Iterator[None]:
    handles = [
        model.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
