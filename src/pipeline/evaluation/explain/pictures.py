"""Maps, kernels and photographs as small pictures inside a page."""

from __future__ import annotations

import base64
import io
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

MAX_SIDE = 128
"""Pixels; a larger picture is shown smaller."""
BRIGHTEST = 0.995
"""The share of a map's places that are below its brightest colour: single ones may stand out."""
KERNEL_SCALE = 6
"""Pixels a side for each value of a kernel."""
PLANE_SIDE = 40
"""Pixels a side that a spectrum or feature map is shown in at least, as far as whole numbers do."""


def photograph(image: NDArray[np.uint8]) -> str:
    """(H, W, 1 or 3) ``uint8`` as a PNG in a data URI."""
    return _uri(Image.fromarray(image[..., 0] if image.shape[2] == 1 else image))


def picture(image: Tensor) -> str:
    """(1 or 3, H, W) in [0, 1] likewise."""
    return photograph((255 * image).round().byte().permute(1, 2, 0).cpu().numpy())


def heat(values: Tensor) -> str:
    """A map (1, H, W) likewise, from dark blue for 0 and below to yellow (viridis).

    Its lightness rises evenly, so it reads the same without colour, and on light and dark pages.
    """
    found = values[0].clamp(min=0).float().cpu()
    brightest = torch.quantile(found.flatten(), BRIGHTEST)
    brightest = brightest if brightest > 0 else found.max()
    levels = (found / brightest.clamp(min=torch.finfo().tiny)).clamp(max=1)
    image = Image.fromarray((255 * levels).round().byte().numpy())
    image.putpalette(_palette())
    return _uri(image)


@cache
def _palette() -> bytes:
    import matplotlib as mpl

    colours = mpl.colormaps["viridis"](np.arange(256))[:, :3]
    return np.round(255 * colours).astype(np.uint8).tobytes()


def kernels(weights: Tensor, columns: int = 16) -> str:
    """(K, C, h, w) side by side: middle grey is 0, white the largest value of all, black its
    opposite. Three channels are the colours; of other numbers the mean is shown."""
    shown = weights if weights.shape[1] in (1, 3) else weights.mean(dim=1, keepdim=True)
    shown = 0.5 + 0.5 * shown / shown.abs().max().clamp(min=torch.finfo().tiny)
    enlarged = shown.repeat_interleave(KERNEL_SCALE, 2).repeat_interleave(KERNEL_SCALE, 3)
    return _uri(_grid((255 * enlarged).round().byte(), columns), MAX_SIDE * 8)


def planes(values: Tensor, columns: int = 16) -> str:
    """(K, h, w) side by side, each from its smallest value, black, to its largest, white."""
    low, high = (f(values, (1, 2), keepdim=True) for f in (torch.amin, torch.amax))
    shares = (values - low) / (high - low).clamp(min=torch.finfo().tiny)
    enlarged = max(1, PLANE_SIDE // max(values.shape[1:]))
    tiles = (255 * shares).round().byte()[:, None]
    tiles = tiles.repeat_interleave(enlarged, 2).repeat_interleave(enlarged, 3)
    return _uri(_grid(tiles, columns), MAX_SIDE * 8)


def _grid(tiles: Tensor, columns: int, gap: int = 2) -> Image.Image:
    """(M, 1 or 3, h, w) ``uint8`` in rows, with transparent lines between them."""
    count, channels, height, width = tiles.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    opaque = torch.full((count, 1, height, width), 255, dtype=torch.uint8)
    colours = tiles.cpu() if channels == 3 else tiles.cpu().expand(-1, 3, -1, -1)
    sheet = torch.zeros(4, rows * (height + gap) - gap, columns * (width + gap) - gap).byte()
    for i, tile in enumerate(torch.cat([colours, opaque], dim=1)):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[:, top : top + height, left : left + width] = tile
    return Image.fromarray(sheet.permute(1, 2, 0).contiguous().numpy())


def _uri(image: Image.Image, max_side: int = MAX_SIDE) -> str:
    if max(image.size) > max_side:
        # A palette's numbers have no mean.
        image = image.convert("RGB") if image.mode == "P" else image
        image.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
