"""The images of the data benchmarks, made from the solar cells and kept in ``.cache/bench``."""

from __future__ import annotations

import importlib.util
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image

from benchmarks.results import PROJECT
from pipeline.workspace import Workspace

CACHE = PROJECT / ".cache" / "bench"
SIZE = (640, 480)
QUALITY = 90

_TURNS = (
    None,
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.ROTATE_180,
)


def cells() -> list[Path]:
    """The 2,624 photographs of the package ``elpv_dataset``, 300 × 300, grey PNG."""
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("elpv_dataset is not installed; run 'make setup'")
    return sorted((Path(spec.origin).parent / "data" / "images").glob("*.png"))


def make_workspace(folder: Path, kind: str, count: int) -> Workspace:
    """A workspace of ``count`` images: ``cells`` as they are, or JPEGs in ``L`` or ``RGB``."""
    workspace = Workspace(folder)
    images = workspace.data / "images"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        images.mkdir(parents=True)
        if kind == "cells":
            for path in cells()[:count]:
                shutil.copy(path, images / path.name)
        else:
            make_jpegs(images, kind, range(count))
        write_listing(workspace)
        (folder / "complete").touch()
    return workspace


def make_jpegs(folder: Path, mode: str, numbers: range) -> None:
    """JPEGs of ``SIZE``, one of each number: a cell, enlarged, in one of four positions."""
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_make_jpeg, folder, mode, cells()), numbers, chunksize=64))


def _make_jpeg(folder: Path, mode: str, sources: list[Path], number: int) -> None:
    turn = _TURNS[number // len(sources) % len(_TURNS)]
    with Image.open(sources[number % len(sources)]) as cell:
        image = cell.resize(SIZE, Image.Resampling.BICUBIC).convert(mode)
    if turn is not None:
        image = image.transpose(turn)
    image.save(folder / f"{number:06}.jpg", quality=QUALITY)


def write_listing(workspace: Workspace) -> None:
    """``metadata.csv`` of all images there are, of one class."""
    names = sorted(os.listdir(workspace.data / "images"))  # noqa: PTH208 (names)
    lines = ["file_name,label", *(f"images/{name},cell" for name in names)]
    workspace.metadata.write_text("\n".join(lines) + "\n", encoding="utf-8")
