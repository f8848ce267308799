"""The images of the training benchmarks: the solar cells at a side, as packed data and as files.

Both hold the same pixels, so what is compared is the way from the disk to the update.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from benchmarks.data_images import CACHE, cells
from pipeline.data.pack import Packed

CLASSES = ("functional", "defective")
QUALITY = 90
VAL_IMAGES = 64


def pixels(side: int, channels: int, count: int) -> NDArray[np.uint8]:
    """(count, side, side, channels): cells, and their mirror images when they are used up."""
    sources = cells()
    made = np.empty((count, side, side, channels), np.uint8)
    for number in range(count):
        with Image.open(sources[number % len(sources)]) as cell:
            small = cell.resize((side, side), Image.Resampling.BOX)
        grey = np.asarray(small)[:, :: -1 if number // len(sources) % 2 else 1]
        made[number] = grey[:, :, None]
    return made


def packed(side: int, channels: int, count: int) -> Packed:
    """``count`` images to train on and `VAL_IMAGES` to validate on, labelled in turns."""
    total = count + VAL_IMAGES
    index = pd.DataFrame(
        {
            "image_id": [f"{number:064x}" for number in range(total)],
            "file_name": [f"{number:06}" for number in range(total)],
            "label": [CLASSES[number % 2] for number in range(total)],
            "target": np.arange(total) % 2,
            "weight": np.ones(total, np.float32),
            "split": ["train"] * count + ["val"] * VAL_IMAGES,
        }
    )
    return Packed(
        images=pixels(side, channels, total),
        index=index,
        classes=CLASSES,
        channels=channels,
        image_size=side,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        extra_columns=(),
        digest="0" * 64,
    )


def class_folders(side: int, channels: int, count: int) -> Path:
    """The images of `packed` to train on, in a folder for each class; made once.

    PNG up to 64 px, as small images come, JPEG above.
    """
    folder = CACHE / f"folders-{side}-{channels}-{count}"
    if (folder / "complete").exists():
        return folder / "train"
    shutil.rmtree(folder, ignore_errors=True)
    for name in CLASSES:
        (folder / "train" / name).mkdir(parents=True)
    for number, image in enumerate(pixels(side, channels, count)):
        picture = Image.fromarray(image if channels == 3 else image[:, :, 0])
        path = folder / "train" / CLASSES[number % 2] / f"{number:06}"
        if side <= 64:
            picture.save(path.with_suffix(".png"))
        else:
            picture.save(path.with_suffix(".jpg"), quality=QUALITY)
    (folder / "complete").touch()
    return folder / "train"
