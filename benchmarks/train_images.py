"""The images of the training benchmarks, as packed data and as files in a folder for each class.

Both hold the same pixels, so what is compared is the way from the disk to the update. They are the
solar cells at a side, or for accuracies those of four IDX files, as of Fashion-MNIST.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from benchmarks.data_images import CACHE, cells
from pipeline.data.pack import Packed

CLASSES = ("functional", "defective")
QUALITY = 90
VAL_IMAGES = 64


class Images(NamedTuple):
    """Pixels (N, S, S, C) with their labels (N,)."""

    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]


def cells_at(side: int, channels: int, count: int) -> Images:
    """Cells, and their mirror images when they are used up, labelled in turns."""
    sources = cells()
    made = np.empty((count, side, side, channels), np.uint8)
    for number in range(count):
        with Image.open(sources[number % len(sources)]) as cell:
            small = cell.resize((side, side), Image.Resampling.BOX)
        grey = np.asarray(small)[:, :: -1 if number // len(sources) % 2 else 1]
        made[number] = grey[:, :, None]
    return Images(made, np.arange(count) % len(CLASSES))


def idx_images(folder: Path, name: str, count: int | None = None) -> Images:
    """The first ``count`` of the pair of gzipped IDX files ``name``: ``train`` or ``t10k``."""
    with gzip.open(folder / f"{name}-images-idx3-ubyte.gz") as file:
        stored = np.frombuffer(file.read(), np.uint8)
    total, *size = stored[4:16].view(">u4").tolist()
    with gzip.open(folder / f"{name}-labels-idx1-ubyte.gz") as file:
        targets = np.frombuffer(file.read(), np.uint8, offset=8)
    pixels = stored[16:].reshape(total, *size, 1)
    return Images(pixels[:count], targets[:count].astype(np.int64))


def pack_images(train: Images, val: Images, classes: Sequence[str]) -> Packed:
    """Packed data to train and to validate on."""
    targets = np.concatenate([train.targets, val.targets])
    index = pd.DataFrame(
        {
            # Augmentation draws by the identity's digits, which are those of a hash.
            "image_id": [sha256(b"%d" % number).hexdigest() for number in range(len(targets))],
            "file_name": [f"{number:06}" for number in range(len(targets))],
            "label": [classes[target] for target in targets],
            "target": targets,
            "weight": np.ones(len(targets), np.float32),
            "split": ["train"] * len(train.targets) + ["val"] * len(val.targets),
        }
    )
    channels = train.pixels.shape[3]
    return Packed(
        images=np.concatenate([train.pixels, val.pixels]),
        index=index,
        classes=tuple(classes),
        channels=channels,
        image_size=train.pixels.shape[1],
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        extra_columns=(),
        digest="0" * 64,
    )


def packed(side: int, channels: int, count: int) -> Packed:
    """``count`` cells to train on and `VAL_IMAGES` to validate on."""
    made = cells_at(side, channels, count + VAL_IMAGES)
    train = Images(made.pixels[:count], made.targets[:count])
    return pack_images(train, Images(made.pixels[count:], made.targets[count:]), CLASSES)


def class_folders(name: str, images: Images, classes: Sequence[str]) -> Path:
    """``images`` in a folder for each class; made once for each ``name``.

    PNG up to 64 px, as small images come, JPEG above.
    """
    folder = CACHE / f"folders-{name}"
    if (folder / "complete").exists():
        return folder / "images"
    shutil.rmtree(folder, ignore_errors=True)
    for label in classes:
        (folder / "images" / label).mkdir(parents=True)
    for number, (image, target) in enumerate(zip(images.pixels, images.targets, strict=True)):
        picture = Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0])
        path = folder / "images" / classes[target] / f"{number:06}"
        if len(image) <= 64:
            picture.save(path.with_suffix(".png"))
        else:
            picture.save(path.with_suffix(".jpg"), quality=QUALITY)
    (folder / "complete").touch()
    return folder / "images"
