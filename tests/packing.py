"""A workspace whose images are accepted and split: what the augment stage starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from pipeline.artifacts import write_json
from pipeline.data.manifest import write_table
from pipeline.params import AugmentParams, PreviewParams
from pipeline.workspace import Workspace

CLASSES = ("bar", "disc")


def augment_params(**changes: object) -> AugmentParams:
    """Settings of the augment stage for tests, with ``changes``."""
    settings = {
        "image_size": 16,
        "channels": "auto",
        "shifts": 0,
        "policy": {"flip": {"horizontal": 0.5}},
        "preview": PreviewParams(images=3, copies=2),
    }
    return AugmentParams.model_validate(settings | changes)


def make_images(count: int, *, mode: str = "L", side: int = 20, seed: int = 0) -> list[Image.Image]:
    """``count`` pictures of noise."""
    rng = np.random.default_rng(seed)
    shape = (side, side) if mode == "L" else (side, side, len(mode))
    return [Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)) for _ in range(count)]


def make_workspace(root: Path, images: Sequence[Image.Image]) -> Workspace:
    """Write ``images`` as PNG files with alternating labels, every fourth one not for training."""
    workspace = Workspace(root)
    (workspace.data / "images").mkdir(parents=True)
    rows = []
    for i, image in enumerate(images):
        path = workspace.data / "images" / f"{i:04}.png"
        image.save(path)
        rows.append(
            {
                "file_name": f"images/{i:04}.png",
                "label": CLASSES[i % 2],
                "weight": 1.0 / (1 + i % 3),
                "split": None,
                "group": None,
                "camera": f"camera {i % 3}",
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "mode": image.mode,
                "width": image.width,
                "height": image.height,
            }
        )
    accepted = pd.DataFrame(rows)
    split = accepted[["file_name"]].assign(
        split=["val" if i % 8 == 3 else "test" if i % 8 == 7 else "train" for i in range(len(rows))]
    )
    write_json(workspace.classes, {"classes": list(CLASSES)})
    write_table(workspace.accepted, pa.Table.from_pandas(accepted, preserve_index=False))
    write_table(workspace.split, pa.Table.from_pandas(split, preserve_index=False))
    return workspace
