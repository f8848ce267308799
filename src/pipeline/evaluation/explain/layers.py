"""The layers of a network as it runs: their names, their feature maps, their kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.evaluation.explain.gradient import CannotExplain, evaluating

Shape = tuple[int, int, int]


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
            if not _is_maps(result):
                return
            runs[name] += 1
            results.append(result)
            # What was changed in place since is another result: a block's sum, not its branch.
            names[id(result), result._version] = name  # noqa: SLF001 (torch names it no other way)
            shapes[name] = (result.shape[1], result.shape[2], result.shape[3])

        return hook

    with _hooked(model, {name: note(name) for name, _ in model.named_modules()}):
        _run(model, image)
    return {name: shapes[name] for name in names.values() if runs[name] == 1}


def feature_maps(model: nn.Module, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
    """The feature maps (N, K, h, w) of ``layers``, by names that `feature_layers` gives."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, result: Any) -> None:
            found[name] = result.detach().clone()  # a copy: what comes next may work in place

        return hook

    with _hooked(model, {name: keep(name) for name in layers}):
        _run(model, images)
    return found


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


def _is_maps(result: Any) -> bool:
    return isinstance(result, Tensor) and result.ndim == 4 and result.shape[2] * result.shape[3] > 1


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
