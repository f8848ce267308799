"""The packed data: each accepted image decoded and resized once, as one ``uint8`` array on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.artifacts import read_json, replacing_folder, require, sha256_file, write_json
from pipeline.console import logger, progress
from pipeline.data.decode import DecodeError
from pipeline.data.manifest import extra_columns, read_table, to_frame, write_table
from pipeline.data.pixels import GREY_MODES, Pixels, decode_image, moments
from pipeline.data.shifts import DIRECTIONS, copies_of, moved_copies
from pipeline.errors import DataRefused, PipelineError
from pipeline.machine import processors
from pipeline.params import AugmentParams
from pipeline.workspace import Workspace

__all__ = ["OWN_COLUMNS", "Packed", "Pixels", "decode_image", "pack"]

OWN_COLUMNS = ("image_id", "file_name", "label", "target", "weight", "split")
_CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Packed:
    """The packed images and what is known of each; row ``i`` of ``index`` is image ``i``."""

    images: Pixels
    """(N, H, W, C), mapped into memory and read only."""
    index: pd.DataFrame
    """`OWN_COLUMNS`, ``group`` where ``split.group`` is set, and ``extra_columns``, sorted by
    ``file_name``; ``target`` indexes ``classes``, ``image_id`` is the SHA-256 of the file. Copies,
    where they are loaded, come last."""
    classes: tuple[str, ...]
    channels: int
    image_size: int
    mean: tuple[float, ...]
    """Per channel, of the train split's pixels in [0, 1]."""
    std: tuple[float, ...]
    extra_columns: tuple[str, ...]
    digest: str
    """SHA-256 over images and index."""

    @classmethod
    def load(cls, folder: Path, *, copies: bool = False) -> Packed:
        """Open what `pack` wrote to ``folder``.

        Args:
            copies: with the moved copies of the training images, which are for training alone.

        Raises:
            PipelineError: a file is missing, or the files do not belong together.
        """
        card = read_json(folder / "packed.json")
        images = _map_images(require(folder / "images.npy"))
        index = pd.read_parquet(require(folder / "index.parquet"))
        shape = (len(index), card["image_size"], card["image_size"], card["channels"])
        loaded = len(index) if copies else card["images"]
        if images.shape != shape:
            raise PipelineError(
                f"{folder}: images.npy is {images.shape}, its index says {shape}; "
                "run 'dvc repro augment' to pack anew"
            )
        return cls(
            images=images[:loaded],
            index=index.iloc[:loaded],
            classes=tuple(card["classes"]),
            channels=card["channels"],
            image_size=card["image_size"],
            mean=tuple(card["mean"]),
            std=tuple(card["std"]),
            extra_columns=tuple(card["extra_columns"]),
            digest=card["digest"],
        )

    def rows(self, split: str) -> NDArray[np.int64]:
        """The rows of ``split`` ("train", "val" or "test"), ascending."""
        return np.flatnonzero(self.index["split"] == split).astype(np.int64)

    def keys(self) -> NDArray[np.int64]:
        """(N,) What stands for an image where random numbers are derived.

        Made from ``image_id``, so it does not depend on which other images there are. Further
        copies of the same file count up from the first one's key.
        """
        ids = self.index["image_id"]
        first = np.array([int(text[:16], 16) for text in ids], dtype=np.uint64)
        occurrence = self.index.groupby("image_id").cumcount().to_numpy(np.uint64)
        return (first + occurrence).view(np.int64)


def pack(workspace: Workspace, params: AugmentParams) -> None:
    """Write ``artifacts/packed`` from the accepted images that are in a split.

    ``images.npy`` is written front to back, never mapped: on a full disk a write raises, while a
    store to a mapped page would kill the process. Memory stays bounded for any number of images.

    Raises:
        DataRefused: there is nothing to train on, or a label is not in ``data/classes.json``.
        PipelineError: an image is not what was scanned, or an earlier stage's output is missing.
        OSError: the disk is full; the packed data is as it was.
    """
    classes = tuple(read_json(workspace.classes)["classes"])
    table = read_table(workspace.accepted)
    accepted = _with_split(workspace, to_frame(table))
    extra = extra_columns(table)
    index = _index(workspace, accepted, extra, classes)
    copies = copies_of(index, params.shifts)
    channels = _channels(params.channels, accepted)
    shape = (len(index), params.image_size, params.image_size, channels)

    with replacing_folder(workspace.packed) as folder:
        rows = pd.concat([index, copies], ignore_index=True) if len(copies) else index
        write_table(folder / "index.parquet", pa.Table.from_pandas(rows, preserve_index=False))
        chunks = _decoded(workspace.data, index, shape, _largest(accepted))
        train = (index["split"] == "train").to_numpy(bool)
        histogram = _write_images(folder / "images.npy", shape, chunks, train, params.shifts)
        mean, std = moments(histogram)
        write_json(
            folder / "packed.json",
            {
                "image_size": params.image_size,
                "channels": channels,
                "classes": classes,
                "mean": mean,
                "std": std,
                "images": len(index),
                "copies": len(copies),
                "extra_columns": extra,
                "digest": _digest(folder / "images.npy", folder / "index.parquet"),
            },
        )
    logger.info(
        "packed %s images of %d×%d×%d%s into %s",
        f"{shape[0]:,}",
        *shape[1:],
        f" and {len(copies):,} moved copies" if len(copies) else "",
        workspace.packed.relative_to(workspace.root),
    )


def _with_split(workspace: Workspace, accepted: pd.DataFrame) -> pd.DataFrame:
    """``accepted`` with the column ``assigned_split``, and the column ``group`` only where images
    were split by one; without what is in no split, by file name."""
    assigned = to_frame(read_table(workspace.split)).set_index("file_name")
    split = assigned["split"]
    unassigned = accepted.loc[~accepted["file_name"].isin(split.index), "file_name"]
    if len(unassigned):
        raise PipelineError(
            f"{workspace.split}: has no split for {len(unassigned)} accepted images, such as "
            f"{unassigned.iloc[0]}; run 'dvc repro' to split anew"
        )
    accepted = accepted.assign(assigned_split=accepted["file_name"].map(split))
    accepted = accepted.drop(columns="group")
    if "group" in assigned:
        accepted["group"] = accepted["file_name"].map(assigned["group"])
    return accepted.dropna(subset="assigned_split").sort_values("file_name", ignore_index=True)


def _index(
    workspace: Workspace, accepted: pd.DataFrame, extra: list[str], classes: tuple[str, ...]
) -> pd.DataFrame:
    """The packed data's table: `OWN_COLUMNS`, ``group`` where there is one, then the ``extra``
    columns of ``metadata.csv``."""
    if taken := [name for name in extra if name in OWN_COLUMNS]:
        raise DataRefused(
            f"{workspace.metadata}: a column cannot be called '{taken[0]}', the packed data has "
            "one of its own by that name; rename it"
        )
    unknown = accepted.loc[~accepted["label"].isin(classes)]
    if len(unknown):
        row = unknown.iloc[0]
        raise DataRefused(
            f"{workspace.metadata}: {row['file_name']} has the label {row['label']!r}, "
            f"{workspace.classes.name} knows only {', '.join(classes)}"
        )
    index = pd.DataFrame(
        {
            "image_id": accepted["sha256"],
            "file_name": accepted["file_name"],
            "label": accepted["label"],
            "target": accepted["label"].map({name: i for i, name in enumerate(classes)}),
            "weight": accepted["weight"],
            "split": accepted["assigned_split"],
        }
    ).astype({"target": "int64", "weight": "float32"})
    if not (index["split"] == "train").any():
        raise DataRefused(f"{workspace.split}: no image is in the split 'train'")
    if "group" in accepted:
        index["group"] = accepted["group"]
    return pd.concat([index, accepted[extra]], axis=1)


def _channels(asked: Literal["auto", 1, 3], accepted: pd.DataFrame) -> int:
    if asked != "auto":
        return asked
    return 1 if accepted["mode"].isin(GREY_MODES).all() else 3


def _largest(accepted: pd.DataFrame) -> int:
    """The pixels of the largest image: what the scan let pass is let pass here."""
    return int((accepted["width"] * accepted["height"]).max())


def _decoded(
    data: Path, index: pd.DataFrame, shape: tuple[int, int, int, int], max_pixels: int
) -> Iterator[Pixels]:
    """All images in the order of ``index``, in chunks (n, H, W, C) of bounded size.

    Threads suffice: Pillow releases the interpreter's lock while it decodes and resizes.
    """
    images, size, _, channels = shape
    rows = list(zip(index["file_name"], index["image_id"], strict=True))
    per_chunk = max(1, _CHUNK_BYTES // (size * size * channels))
    read = partial(_read, data, channels=channels, image_size=size, max_pixels=max_pixels)
    with progress("packing", images) as step, ThreadPoolExecutor(processors()) as pool:
        for start in range(0, images, per_chunk):
            part = rows[start : start + per_chunk]
            chunk = np.empty((len(part), size, size, channels), np.uint8)
            for i, pixels in enumerate(pool.map(read, part)):
                chunk[i] = pixels
                step.advance()
            yield chunk


def _read(
    data: Path, row: tuple[str, str], *, channels: int, image_size: int, max_pixels: int
) -> Pixels:
    file_name, sha256 = row
    path = data / file_name
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise PipelineError(
                f"{path}: the file has changed since it was scanned; run 'dvc repro' to scan anew"
            )
        return decode_image(
            content, channels=channels, image_size=image_size, max_pixels=max_pixels
        )
    except FileNotFoundError:
        raise PipelineError(
            f"{path}: the file is gone since it was scanned; bring it back, or run 'dvc repro' "
            "to scan anew"
        ) from None
    except DecodeError as error:
        raise PipelineError(
            f"{path}: cannot be packed: {error}; take it out of metadata.csv, or leave its mode "
            "out of validation.modes"
        ) from error


def _write_images(
    path: Path,
    shape: tuple[int, int, int, int],
    chunks: Iterator[Pixels],
    train: NDArray[np.bool_],
    shifts: int,
) -> NDArray[np.int64]:
    """Write the array file; returns how often each value occurs in the train split, (C, 256).

    The copies of the training images are not counted; they come after all others.
    """
    images, side, _, channels = shape
    histogram = np.zeros((channels, 256), np.int64)
    copied = np.flatnonzero(train) if shifts else np.empty(0, np.int64)
    start = 0
    with path.open("wb") as file:
        whole = (images + len(DIRECTIONS) * len(copied), side, side, channels)
        header = {"descr": "|u1", "fortran_order": False, "shape": whole}
        np.lib.format.write_array_header_1_0(file, header)
        begin = file.tell()
        for chunk in chunks:
            file.write(chunk.data)
            chosen = chunk[train[start : start + len(chunk)]]
            for channel in range(channels):
                histogram[channel] += np.bincount(chosen[..., channel].ravel(), minlength=256)
            start += len(chunk)
        file.flush()
        stored = np.memmap(path, np.uint8, "r", offset=begin, shape=shape)
        per_chunk = max(1, _CHUNK_BYTES // (side * side * channels))
        file.writelines(c.data for c in moved_copies(stored, copied, shifts, chunk=per_chunk))
    return histogram


def _map_images(path: Path) -> Pixels:
    try:
        images: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise PipelineError(
            f"{path}: damaged or cut short ({error}); run 'dvc repro augment' to pack anew"
        ) from error
    return images


def _digest(*paths: Path) -> str:
    digests = (bytes.fromhex(sha256_file(path)) for path in paths)
    return hashlib.sha256(b"".join(digests)).hexdigest()
