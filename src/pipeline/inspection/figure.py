"""The feature maps of a network along its depth, and what each sees of the image, as a drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle

from pipeline.artifacts import replacing
from pipeline.evaluation.figures import LIGHT, PNG_DPI, style
from pipeline.inspection.field import Reach
from pipeline.inspection.layers import IMAGE, UNUSED, Anatomy, Layer
from pipeline.inspection.specimen import Subject
from pipeline.inspection.wording import pair, shape, short

MAX_COLUMNS = 13
"""With more layers than this a column stands for all layers whose maps have one size."""
_COLUMN = 1.32
"""Inches; all other lengths are in inches too."""
_NARROWEST = 5.4
"""So that the lines above the drawing have room."""
_LARGEST, _SMALLEST = 0.9, 0.07
_FRAME = 0.62
_MAPS, _TEXT, _IMAGES = 2.62, 1.78, 0.52
"""Heights of the middle of the maps, of the first line below them, and of the images' lower edge.
"""


@dataclass(frozen=True)
class Column:
    """Consecutive layers, drawn as the result of the last of them."""

    layers: tuple[Layer, ...]

    @property
    def shown(self) -> Layer:
        return self.layers[-1]

    @property
    def colour(self) -> str:
        if self.shown.name == IMAGE:
            return LIGHT["muted"]
        if len(self.shown.shape) != 3:
            return LIGHT["c2"]
        pooling = self.shown.window is not None and not any(
            layer.parameters for layer in self.layers
        )
        return LIGHT["c4" if pooling else "c0"]

    @property
    def title(self) -> str:
        layer = self.shown
        if len(self.layers) > 1:
            windows = [each for each in self.layers if each.window is not None]
            return f"{len(windows) or len(self.layers)} layers"
        if layer.window is None:
            return layer.kind
        stride = layer.window.stride
        step = f", /{pair(stride)}" if stride != (1, 1) else ""
        return f"{_plain(layer.kind)} {pair(layer.window.kernel)}{step}"


def _plain(kind: str) -> str:
    return {
        "Conv2d": "conv",
        "MaxPool2d": "max",
        "AvgPool2d": "mean",
        "convolution": "conv",
        "maximum": "max",
        "average": "mean",
    }.get(kind, kind)


def columns(anatomy: Anatomy) -> list[Column]:
    """What is drawn from left to right: the image, maps, then vectors."""
    layers = [layer for layer in anatomy.layers if layer.name not in (IMAGE, UNUSED)]
    maps = [layer for layer in layers if _is_map(layer)]
    others = [layer for layer in layers if layer not in maps]
    vectors = [layer for layer in others if len(layer.shape) < 3]
    single = [Column((layer,)) for layer in maps]
    if len(single) + len(vectors) + 1 > MAX_COLUMNS:
        by_side: dict[tuple[int, ...], list[Layer]] = {}
        for layer in maps:
            by_side.setdefault(layer.shape[1:], []).append(layer)
        single = [Column(tuple(each)) for each in by_side.values()][: MAX_COLUMNS - 4]
        tokens = tuple(layer for layer in vectors if len(layer.shape) == 2)
        single += [Column(tokens)] if tokens else []
        vectors = [layer for layer in vectors if len(layer.shape) == 1][-3:]
    return [Column(anatomy.layers[:1]), *single, *(Column((layer,)) for layer in vectors)]


def _is_map(layer: Layer) -> bool:
    """Whether its result is channels of a map, rather than tokens, capsules or features."""
    if len(layer.shape) != 3 or layer.kind == "product" or layer.reach.jump == (0, 0):
        return layer.window is not None
    return layer.window is not None or layer.shape[1] == layer.shape[2]


def draw(subject: Subject, anatomy: Anatomy, path: Path) -> None:
    """Write the drawing to ``path``, an .svg or .png; equal networks give equal bytes."""
    with style():
        figure = diagram(subject, anatomy)
        with replacing(path) as temporary:
            metadata = (
                {"Software": None}
                if path.suffix == ".png"
                else {"Date": None, "Creator": None, "Format": None, "Type": None}
            )
            figure.savefig(
                temporary, format=path.suffix[1:], dpi=PNG_DPI, facecolor="white", metadata=metadata
            )


def diagram(subject: Subject, anatomy: Anatomy) -> Figure:
    """The drawing; see `columns`."""
    shown = columns(anatomy)
    width, height = max(_COLUMN * len(shown) + 0.3, _NARROWEST), 3.85
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    axes.text(0.25, height - 0.27, subject.model, fontsize=12.5, weight="bold", va="center")
    axes.text(
        0.25,
        height - 0.5,
        f"{short(anatomy.parameters)} parameters · {short(anatomy.multiply_adds)} multiply-adds"
        f" · receptive field: {_pixels(anatomy.field(anatomy.last_map))}",
        fontsize=9,
        color=LIGHT["muted"],
        va="center",
    )
    middles = [0.15 + _COLUMN * (i + 0.5) for i in range(len(shown))]
    _arrows(axes, anatomy, shown, middles)
    for column, middle in zip(shown, middles, strict=True):
        _solid(axes, anatomy, column, middle)
        _labels(axes, column, middle)
        _field(axes, anatomy, column.shown, middle)
    return figure


def _pixels(field: str) -> str:
    return f"{field} px" if field[-1].isdigit() else field


def _extent(anatomy: Anatomy, layer: Layer) -> tuple[float, float, float]:
    """Width and height of the front of what is drawn for a layer, and its depth."""
    if len(layer.shape) != 3:
        return 0.09, min(0.25 + 0.085 * math.log2(max(math.prod(layer.shape), 2)), 1.25), 0.05
    channels, rows, across = layer.shape
    sides = [
        max(_LARGEST * math.sqrt(min(side / anatomy.image_size, 1.0)), _SMALLEST)
        for side in (across, rows)
    ]
    return sides[0], sides[1], 0.04 + 0.045 * math.log2(channels)


def _solid(axes: Axes, anatomy: Anatomy, column: Column, middle: float) -> None:
    """A box: its front is the map, its depth stands for the channels."""
    across, up, depth = _extent(anatomy, column.shown)
    dx, dy = 0.62 * depth, 0.42 * depth
    left, low = middle - (across + dx) / 2, _MAPS - (up + dy) / 2
    front = [(left, low), (left + across, low), (left + across, low + up), (left, low + up)]
    top = [
        front[3],
        front[2],
        (front[2][0] + dx, front[2][1] + dy),
        (front[3][0] + dx, front[3][1] + dy),
    ]
    side = [
        front[1],
        (front[1][0] + dx, front[1][1] + dy),
        (front[2][0] + dx, front[2][1] + dy),
        front[2],
    ]
    for corners, light in ((top, 0.55), (side, 0.25), (front, 0.78)):
        axes.add_patch(
            Polygon(
                corners,
                facecolor=_tint(column.colour, light),
                edgecolor=column.colour,
                linewidth=0.8,
                joinstyle="round",
            )
        )


def _tint(colour: str, share: float) -> str:
    """``colour`` with this share of white."""
    return to_hex([share + (1 - share) * value for value in to_rgb(colour)])


def _arrows(
    axes: Axes, anatomy: Anatomy, shown: Sequence[Column], middles: Sequence[float]
) -> None:
    for i in range(len(shown) - 1):
        ends = []
        for column, middle, sign in ((shown[i], middles[i], 1), (shown[i + 1], middles[i + 1], -1)):
            across, _, depth = _extent(anatomy, column.shown)
            ends.append((middle + sign * ((across + 0.62 * depth) / 2 + 0.05), _MAPS))
        if ends[1][0] - ends[0][0] > 0.08:
            axes.add_patch(
                FancyArrowPatch(
                    *ends,
                    arrowstyle="-|>",
                    mutation_scale=7,
                    linewidth=0.8,
                    color=LIGHT["muted"],
                    shrinkA=0,
                    shrinkB=0,
                )
            )


def _labels(axes: Axes, column: Column, middle: float) -> None:
    layer = column.shown
    parameters = sum(each.parameters for each in column.layers)
    lines = [
        (column.title if layer.name != IMAGE else "image", LIGHT["ink"], "bold"),
        (shape(layer.shape), LIGHT["ink"], "normal"),
        (f"{short(parameters)} parameters" if parameters else "", LIGHT["muted"], "normal"),
    ]
    for i, (text, colour, weight) in enumerate(lines):
        _write(axes, middle, _TEXT - 0.155 * i, text, color=colour, weight=weight)


def _field(axes: Axes, anatomy: Anatomy, layer: Layer, middle: float) -> None:
    """The image as a frame with the receptive field in it, to scale."""
    muted = LIGHT["muted"]
    if layer.name == IMAGE:
        said = "receptive field\nin the image"
        _write(axes, middle, _IMAGES + _FRAME / 2, said, fontsize=8, color=muted, linespacing=1.4)
        return
    corner = (middle - _FRAME / 2, _IMAGES)
    ground = _tint(LIGHT["line"], 0.55)
    axes.add_patch(Rectangle(corner, _FRAME, _FRAME, facecolor=ground, edgecolor="none"))
    text, reach = anatomy.field(layer), layer.reach
    if reach.known:
        _seen(axes, anatomy, reach, corner)
    axes.add_patch(Rectangle(corner, _FRAME, _FRAME, fill=False, edgecolor=muted, linewidth=0.8))
    _write(axes, middle, _IMAGES - 0.13, _pixels(text))
    if reach.known and max(reach.jump) > 0 and text != "whole image":
        _write(axes, middle, _IMAGES - 0.285, f"jump {pair(reach.jump)}", color=muted)


def _seen(axes: Axes, anatomy: Anatomy, reach: Reach, corner: tuple[float, float]) -> None:
    """What of the image ``reach`` covers, in its frame with this lower left corner."""
    scale, last = _FRAME / anatomy.image_size, anatomy.image_size - 1
    top, low = max(reach.top, 0.0), min(reach.bottom, last)
    start, end = max(reach.left, 0.0), min(reach.right, last)
    axes.add_patch(
        Rectangle(
            (corner[0] + start * scale, corner[1] + (last - low) * scale),
            (end - start + 1) * scale,
            (low - top + 1) * scale,
            facecolor=_tint(LIGHT["c1"], 0.35),
            edgecolor=LIGHT["c1"],
            linewidth=0.8,
        )
    )


def _write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """``text`` with its middle there."""
    axes.text(x, y, text, ha="center", va="center", **{"fontsize": 7.6} | style)
