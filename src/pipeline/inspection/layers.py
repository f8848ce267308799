"""The operations of a network gathered into layers, as people count them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from pipeline.inspection.field import Reach, Window
from pipeline.inspection.trace import Operation, trace

IMAGE = "image"
UNUSED = "(not used)"

_LAYERS = {
    "convolution": "convolution",
    "max_pool2d_with_indices": "maximum",
    "avg_pool2d": "average",
    "_adaptive_avg_pool2d": "average",
    "adaptive_max_pool2d": "maximum",
    "mm": "linear",
    "addmm": "linear",
    "bmm": "product",
    "baddbmm": "product",
    "im2col": "patches",
    "pixel_shuffle": "depth to space",
    "pixel_unshuffle": "space to depth",
    "upsample_nearest2d": "enlarge",
    "grid_sampler_2d": "sample",
    "_fft_r2c": "spectrum",
    "_fft_c2c": "spectrum",
    "_fft_c2r": "spectrum",
}
"""Operations that are a layer wherever they stand, and what they are called outside of modules."""
_MERGES = {"add": "add", "mul": "scale", "cat": "concatenate", "lerp": "mix"}
_MEASURES = ("mean", "sum", "amax", "amin", "max")
"""Layers where they leave no positions, and otherwise a part of the layer before."""
_NORMS = ("batch_norm", "layer_norm", "group_norm", "rms_norm")
_ACTIVATIONS = (
    *("relu", "sigmoid", "tanh", "gelu", "silu", "mish", "elu", "leaky_relu", "hardswish"),
    *("hardsigmoid", "softplus", "prelu", "glu", "softmax"),
)


@dataclass(frozen=True)
class Layer:
    """A layer in one of its runs, with the norms and activations that follow it."""

    name: str
    """The path of its module in the network; `IMAGE` for the input."""
    kind: str
    then: tuple[str, ...]
    """What is done to its result element by element: ``norm``, ``relu`` and so on."""
    inputs: tuple[int, ...]
    """The layers it starts from, by their place; 0 is the image."""
    source: tuple[int, ...]
    """The shape of its (first) input, without the batch."""
    shape: tuple[int, ...]
    """The shape of its result, without the batch."""
    reach: Reach
    window: Window | None
    groups: int
    parameters: int
    """Trained numbers, counted where they are used first."""
    multiply_adds: int
    memory: int
    """Bytes of all its results for one image in float32."""


@dataclass(frozen=True)
class Anatomy:
    """A network as the layers it consists of, in the order they run in; the first is the image."""

    image_size: int
    channels: int
    layers: tuple[Layer, ...]

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """For one image, of convolutions and matrix products."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def memory(self) -> int:
        """Bytes of all results for one image in float32, without that of the image itself."""
        return sum(layer.memory for layer in self.layers)

    @property
    def last_map(self) -> Layer:
        """The layer whose receptive field is the network's.

        It is the last map made of windows, with the branches that meet in it. Behind attention, or
        without windows, it is the last layer of all.
        """
        used = [layer for layer in self.layers if layer.name != UNUSED]
        products = [i for i, layer in enumerate(used) if layer.kind == "product"]
        windows = [
            i
            for i, layer in enumerate(used)
            if layer.window and (layer.window.kernel, layer.window.stride) != ((1, 1), (1, 1))
        ]
        if not windows or (products and products[-1] > windows[-1]):
            return used[-1]
        maps = [layer for layer in used[windows[-1] :] if max(layer.reach.jump) > 0]
        return maps[-1] if maps else used[windows[-1]]

    def field(self, layer: Layer) -> str:
        """The receptive field of ``layer`` in pixels, as text."""
        reach, last = layer.reach, self.image_size - 1
        if not reach.known:
            return "–"
        if reach.covers(self.image_size):
            return "whole image"
        rows, columns = reach.size
        if reach.jump[0] == 0:
            rows = int(min(reach.bottom, last) - max(reach.top, 0)) + 1
        if reach.jump[1] == 0:
            columns = int(min(reach.right, last) - max(reach.left, 0)) + 1
        return f"{rows}" if rows == columns else f"{rows} × {columns}"


def anatomy(net: nn.Module, *, channels: int, image_size: int) -> Anatomy:
    """The layers of ``net``, which lies on the meta device, for square images of that side."""
    sizes = {name: parameter.numel() for name, parameter in net.named_parameters()}
    operations = trace(net, channels=channels, image_size=image_size)
    gathered = _gather(operations, sizes)
    shape = (channels, image_size, image_size)
    end = image_size - 1.0
    nothing = Layer(IMAGE, "", (), (), shape, shape, Reach(0, 0, 0, 0, (1, 1)), None, 1, 0, 0, 0)
    image = dataclasses.replace(nothing, memory=gathered.image_memory)
    layers = [image, *gathered.layers]
    unused = sum(sizes.values()) - sum(layer.parameters for layer in layers)
    if unused:
        whole = Reach(0, end, 0, end, (0, 0))
        layers.append(
            dataclasses.replace(nothing, name=UNUSED, shape=(), reach=whole, parameters=unused)
        )
    return Anatomy(image_size, channels, tuple(layers))


class _Gathering:
    """Layers that grow while operations join them."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.image_memory = 0
        self.runs: dict[int, int] = {}
        """The layer that the run of a module without children has made."""

    def join(self, place: int, operation: Operation, parameters: int) -> None:
        """Make ``operation`` a part of the layer at ``place``."""
        if place == 0:
            self.image_memory += operation.memory
            return
        layer = self.layers[place - 1]
        same_run = self.runs.get(operation.run) == place
        word = _word(operation.name)
        self.layers[place - 1] = dataclasses.replace(
            layer,
            then=layer.then if word is None or same_run else (*layer.then, word),
            shape=_one(operation.shape) if same_run else layer.shape,
            reach=operation.reach if same_run else layer.reach,
            parameters=layer.parameters + parameters,
            multiply_adds=layer.multiply_adds + operation.multiply_adds,
            memory=layer.memory + operation.memory,
        )

    def start(self, operation: Operation, inputs: tuple[int, ...], parameters: int) -> int:
        """Make ``operation`` a layer of its own; returns its place."""
        named = operation.run != -1
        self.layers.append(
            Layer(
                name=operation.module.removeprefix("net."),
                kind=operation.kind if named else _kind(operation.name),
                then=(),
                inputs=inputs,
                source=_one(operation.source),
                shape=_one(operation.shape),
                reach=operation.reach,
                window=operation.window,
                groups=operation.groups,
                parameters=parameters,
                multiply_adds=operation.multiply_adds,
                memory=operation.memory,
            )
        )
        place = len(self.layers)
        if named:
            self.runs[operation.run] = place
        return place


def _gather(operations: Sequence[Operation], sizes: dict[str, int]) -> _Gathering:
    gathering = _Gathering()
    places: list[int] = []  # of the layer that each operation became a part of
    counted: set[str] = set()
    for operation in operations:
        parameters = sum(sizes[name] for name in operation.parameters - counted)
        counted |= operation.parameters
        inputs = tuple(dict.fromkeys(places[i] if i >= 0 else 0 for i in operation.inputs))
        before = operations[operation.inputs[0]] if operation.inputs[0] >= 0 else None
        place = gathering.runs.get(operation.run)
        if place is None and not _is_layer(operation, before, inputs):
            place = max(inputs)
        if place is None:
            place = gathering.start(operation, inputs, parameters)
        else:
            gathering.join(place, operation, parameters)
        places.append(place)
    return gathering


def _is_layer(operation: Operation, before: Operation | None, inputs: tuple[int, ...]) -> bool:
    name = operation.name.removesuffix("_")
    if name in _LAYERS or not operation.reach.known:
        return True
    if name in _MEASURES and before is not None:
        positions = math.prod(operation.source[2:]) if len(operation.source) == 4 else 1
        of_map = positions > 1 and math.prod(operation.shape) == math.prod(operation.source[:2])
        return of_map or before.reach.jump != operation.reach.jump
    return len(inputs) > 1


def _one(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without the batch of one image; a product may have made a batch of the positions."""
    return shape[1:] if shape[0] == 1 else shape


def _kind(name: str) -> str:
    name = name.removesuffix("_")
    return _LAYERS.get(name) or _MERGES.get(name) or name.strip("_").replace("_", " ")


def _word(name: str) -> str | None:
    """What a norm or activation is called; None for all else that has no name of its own."""
    plain = name.strip("_").removesuffix("_kernel").removeprefix("safe_")
    if any(norm in plain for norm in _NORMS):
        return "norm"
    if plain == "hardtanh":
        return "relu6"
    return plain if plain in _ACTIVATIONS else None


def side_formula(layer: Layer) -> str:
    """How the side of a window's result follows, such as ``(28 + 2·2 − 5)/1 + 1``.

    That is (I + 2P - K)/S + 1, where K is the kernel with its gaps: D·(K - 1) + 1. Empty for other
    layers than windows. A division that leaves a rest is marked as rounded down, or up.
    """
    window = layer.window
    if window is None or len(layer.source) != 3 or len(layer.shape) != 3:
        return ""
    size, stride = layer.source[1], window.stride[0]
    reach = window.dilation[0] * (window.kernel[0] - 1) + 1
    border = f" + 2·{window.padding[0]}" if window.padding[0] else ""
    text = f"({size}{border} − {reach})/{stride}"
    if window.output_size(size) != layer.shape[1]:
        return f"⌈{text}⌉ + 1"
    exact = (size + 2 * window.padding[0] - reach) % stride == 0
    return f"{text} + 1" if exact else f"⌊{text}⌋ + 1"
