"""A picture of the augmentation policy: originals beside what training makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.artifacts import replacing
from pipeline.console import logger
from pipeline.data.pack import Packed
from pipeline.params import AugmentParams
from pipeline.vision.augmentation import Policy, build_policy
from pipeline.vision.mixing import neighbours
from pipeline.workspace import Workspace

_WIDTH = 1200  # pixels, about: tiles are whole pixels
_MARGIN, _GAP, _HEADER = 24, 8, 40
_LABELS = 132  # the column of class names
_PAPER, _INK, _QUIET, _LINE = "#ffffff", "#1f2328", "#59636e", "#d1d9e0"


def preview(workspace: Workspace, params: AugmentParams) -> None:
    """Draw ``artifacts/augmentation.png`` from the packed data.

    A row per original, classes in turn, then its first epochs. What the policy mixes is mixed by
    rows: the first with the second, the third with the fourth. Equal inputs give equal bytes.
    """
    packed = Packed.load(workspace.packed)
    chosen = _one_class_after_another(packed.index, packed.rows("train"), params.preview.images)
    tiles = _tiles(
        packed, chosen, build_policy(params.policy, where="augment.policy"), params.preview.copies
    )
    labels = [str(label) for label in packed.index["label"].iloc[chosen]]
    named = f"policy {params.policy}: " if isinstance(params.policy, str) else ""
    picture = _draw(tiles, labels, f"{named}as the first epochs of a training see it")
    with replacing(workspace.preview) as path:
        picture.save(path, format="PNG", optimize=True)
    logger.info("drew the augmentation policy: %s", workspace.preview.relative_to(workspace.root))


def _one_class_after_another(
    index: pd.DataFrame, rows: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """``count`` of ``rows``: the first of each class, then the second of each, and so on.

    First by content hash, which is as good as any and not by file name, for neighbours in a folder
    tend to look alike.
    """
    part = index.iloc[rows][["target", "image_id"]].assign(row=rows)
    part = part.sort_values(["image_id", "row"])
    part["turn"] = part.groupby("target").cumcount()
    return part.sort_values(["turn", "target"])["row"].to_numpy(np.int64)[:count]


def _tiles(
    packed: Packed, rows: NDArray[np.int64], policy: Policy, copies: int
) -> NDArray[np.uint8]:
    """(images, 1 + copies, H, W, C): each original and what epochs 0, 1, … would see of it."""
    originals = torch.from_numpy(packed.images[rows]).movedim(-1, 1) / 255
    keys = torch.from_numpy(packed.keys()[rows])
    shown = [originals]
    for epoch in range(copies):
        images = policy(originals, keys, seed=0, epoch=epoch)
        if policy.mixing is not None:
            partners = neighbours(len(keys), keys.device)
            images, _ = policy.mixing(images, keys, partners, seed=0, epoch=epoch)
        shown.append(images)
    pixels = torch.stack(shown, dim=1).mul(255).round().byte()  # (images, 1 + copies, C, H, W)
    return pixels.movedim(2, -1).numpy()


def _draw(tiles: NDArray[np.uint8], labels: Sequence[str], title: str) -> Image.Image:
    rows, columns = tiles.shape[:2]
    side = max(24, (_WIDTH - 2 * _MARGIN - _LABELS - columns * _GAP) // columns)
    left = _MARGIN + _LABELS
    copies = left + side + 2 * _GAP  # a wider gap sets the original apart
    width = copies + (columns - 1) * (side + _GAP) - _GAP + _MARGIN
    height = _HEADER + _MARGIN + rows * (side + _GAP) - _GAP + _MARGIN
    picture = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(picture)
    middle = _MARGIN + _HEADER // 2
    draw.text((left + side / 2, middle), "original", _QUIET, _font(15), anchor="mm")
    draw.text(
        ((copies + width - _MARGIN) / 2, middle),
        title,
        _QUIET,
        _font(15),
        anchor="mm",
    )
    draw.line(
        [(copies - 1.5 * _GAP, middle - 8), (copies - 1.5 * _GAP, height - _MARGIN)], _LINE, 1
    )
    for i, label in enumerate(labels):
        top = _HEADER + _MARGIN + i * (side + _GAP)
        name = _shortened(label, _LABELS - 2 * _GAP)
        draw.text((_MARGIN, top + side / 2), name, _INK, _font(16), anchor="lm")
        for j in range(columns):
            at = left if j == 0 else copies + (j - 1) * (side + _GAP)
            picture.paste(_tile(tiles[i, j], side), (at, top))
    return picture if tiles.shape[-1] == 3 else picture.convert("L")


def _tile(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return image.resize((side, side), Image.Resampling.LANCZOS).convert("RGB")


def _shortened(text: str, width: int) -> str:
    """``text``, cut with an ellipsis where it is wider than ``width`` pixels."""
    font = _font(16)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow, so that the picture is the same on every machine."""
    return ImageFont.load_default(size)
