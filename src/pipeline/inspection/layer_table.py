"""``python -m pipeline inspect``: the layers of a network as a table, or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipeline.data.wording import file_size
from pipeline.inspection.layers import IMAGE, UNUSED, Anatomy, Layer, side_formula
from pipeline.inspection.specimen import Subject
from pipeline.inspection.wording import pair, shape, short

LEGEND = (
    "K kernel, S stride, P padding, D dilation, G groups; side: (I + 2P − D(K − 1) − 1)/S + 1",
    "field: the pixels that the middle of the map sees; jump: those between neighbours",
    "multiply-adds: of convolutions and matrix products; memory: all results, one image, float32",
)


def layer_table(anatomy: Anatomy, *, sides: bool) -> Table:
    """The layers with a line of totals; ``sides`` shows how each side of a map follows."""
    table = Table(box=SIMPLE_HEAD, show_footer=True, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", justify="right")
    table.add_column("layer", "total", overflow="fold")
    table.add_column("kind", overflow="fold")
    table.add_column("from", justify="right")
    for name in "KSPDG":
        table.add_column(name, justify="right")
    if sides:
        table.add_column("side")
    for name, total in (
        ("output", ""),
        ("field", anatomy.field(anatomy.last_map)),
        ("jump", ""),
        ("parameters", f"{anatomy.parameters:,}"),
        ("multiply-adds", short(anatomy.multiply_adds)),
        ("memory", file_size(anatomy.memory)),
    ):
        table.add_column(name, total, justify="right", no_wrap=True)
    for place, layer in enumerate(anatomy.layers):
        table.add_row(*_cells(anatomy, place, layer, sides=sides))
    return table


def _cells(anatomy: Anatomy, place: int, layer: Layer, *, sides: bool) -> list[str]:
    if layer.name == UNUSED:
        empty = [""] * (10 + sides)
        return ["", UNUSED, *empty, f"{layer.parameters:,}", "", ""]
    jump = layer.reach.jump
    return [
        f"{place}",
        layer.name,
        " ".join((layer.kind, *(f"+ {word}" for word in layer.then))),
        "" if layer.inputs in ((), (place - 1,)) else ", ".join(map(str, layer.inputs)),
        *_window_cells(layer),
        *([side_formula(layer)] if sides else []),
        shape(layer.shape),
        "" if layer.name == IMAGE else anatomy.field(layer),
        pair(jump) if layer.reach.known and max(jump) > 0 and layer.name != IMAGE else "",
        f"{layer.parameters:,}" if layer.parameters else "",
        short(layer.multiply_adds) if layer.multiply_adds else "",
        file_size(layer.memory) if layer.memory else "",
    ]


def _window_cells(layer: Layer) -> list[str]:
    window = layer.window
    if window is None:
        return [""] * 5
    four = (window.kernel, window.stride, window.padding, window.dilation)
    return [*map(pair, four), f"{layer.groups}"]


def as_json(subject: Subject, anatomy: Anatomy) -> str:
    """All of it for machines: counts and bytes as whole numbers, what is not defined as null."""
    layers = [_record(anatomy, layer) for layer in anatomy.layers]
    totals = {
        "parameters": anatomy.parameters,
        "multiply_adds": anatomy.multiply_adds,
        "activation_bytes": anatomy.memory,
        "receptive_field": anatomy.field(anatomy.last_map),
    }
    return json.dumps(asdict(subject) | totals | {"layers": layers}, indent=2, ensure_ascii=False)


def _record(anatomy: Anatomy, layer: Layer) -> dict[str, Any]:
    reach, window = layer.reach, layer.window
    return {
        "name": layer.name,
        "kind": layer.kind,
        "then": list(layer.then),
        "inputs": list(layer.inputs),
        **(
            asdict(window) | {"groups": layer.groups}
            if window is not None
            else dict.fromkeys(("kernel", "stride", "padding", "dilation", "groups"))
        ),
        "output": list(layer.shape),
        "field": list(reach.size) if reach.known else None,
        "field_text": anatomy.field(layer),
        "jump": list(reach.jump) if reach.known else None,
        "whole_image": reach.covers(anatomy.image_size),
        "parameters": layer.parameters,
        "multiply_adds": layer.multiply_adds,
        "activation_bytes": layer.memory,
    }
