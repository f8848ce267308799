"""IDX files, the format of MNIST: a file of images and one of labels, or several such pairs."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.console import progress
from pipeline.data.manifest import split_of
from pipeline.data.sources.compression import Unpacked
from pipeline.data.sources.png import png_bytes
from pipeline.data.sources.source import Listing, Request
from pipeline.errors import DataRefused, did_you_mean

FORM = "IDX files as of MNIST (…-images-idx3-ubyte and …-labels-idx1-ubyte, .gz too)"

_NAME = re.compile(r"(?i)(?P<set>.*?)[-_.]?(?P<what>images|labels)[-.]idx[1-4]-ubyte(\.gz)?")
_UBYTE = 0x08
_LARGEST_SIDE = 65_535
_LABELS = 1 << 16
"""Labels read at once."""


@dataclass(frozen=True)
class _Pair:
    name: str
    """What stands before ``images``: ``train``, ``t10k``, or nothing."""
    images: Path
    labels: Path

    @property
    def split(self) -> str | None:
        words = [
            "test" if word == "t10k" else word for word in re.split(r"[-_.]", self.name.lower())
        ]
        return next((split for word in words if (split := split_of(word))), None)


@dataclass(frozen=True)
class _Header:
    count: int
    shape: tuple[int, ...]
    """Of one item."""


def claims(request: Request) -> bool:
    path = request.folder
    if path.is_file():
        return _NAME.fullmatch(path.name) is not None
    return path.is_dir() and any(_NAME.fullmatch(inner.name) for inner in path.iterdir())


def read(request: Request) -> Listing:
    """Write each image as a PNG to the scratch folder; its label is the number's text.

    Raises:
        DataRefused: an image file lacks its labels, or a header does not fit its file.
    """
    pairs = _pairs(request)
    folder = request.scratch / "idx"
    splits = [pair.split for pair in pairs]
    if len(pairs) > 1 and (None in splits or len(set(splits)) < len(pairs)):
        raise DataRefused(
            f"{request.shown}: has {len(pairs)} sets of images"
            f" ({', '.join(pair.images.name for pair in pairs)}), which are no train"
            " and test set of one data set; name the file of one"
        )
    columns: dict[str, list[str]] = {"file_name": [], "label": []}
    if all(splits):
        columns["split"] = []
    for pair in pairs:
        names, labels = _unpack(request, pair, folder)
        columns["file_name"] += names
        columns["label"] += labels
        if "split" in columns:
            columns["split"] += [pair.split or ""] * len(names)
    return Listing(
        folder=folder.resolve(),
        columns=columns,
        origin=" and ".join(pair.images.name for pair in pairs),
        shown=request.shown,
    )


def _pairs(request: Request) -> list[_Pair]:
    path = request.folder
    folder = path if path.is_dir() else path.parent
    named = {p.name: m for p in sorted(folder.iterdir()) if (m := _NAME.fullmatch(p.name))}
    own = _NAME.fullmatch(path.name) if path.is_file() else None
    pairs = []
    for name, match in named.items():
        if match["what"].lower() != "images" or (own and match["set"] != own["set"]):
            continue
        twins = [
            other
            for other, found in named.items()
            if found["set"] == match["set"] and found["what"] == match["what"]
        ]
        if len(twins) > 1:
            raise DataRefused(f"{request.shown}: has {' and '.join(twins)}; keep one of them")
        labels = [
            other
            for other, found in named.items()
            if found["set"] == match["set"] and found["what"].lower() == "labels"
        ]
        if len(labels) != 1:
            expected = name.replace("images", "labels").replace("idx3", "idx1")
            raise DataRefused(
                f"{request.shown}: {len(labels)} files of labels for {name}, expected {expected}"
                + (did_you_mean(expected, (p.name for p in folder.iterdir())) or "; put it there")
            )
        pairs.append(_Pair(match["set"], folder / name, folder / labels[0]))
    if not pairs:
        raise DataRefused(f"{request.shown}: IDX labels without images; put the images beside them")
    return pairs


def _unpack(request: Request, pair: _Pair, folder: Path) -> tuple[list[str], list[str]]:
    """Write the images of ``pair``; returns their names below ``folder``, and their labels."""
    limits = request.limits
    with (
        Unpacked(pair.images, limits, pair.images.name) as images,
        Unpacked(pair.labels, limits, pair.labels.name) as labels,
    ):
        header = _header(images, pair.images.name, (3, 4))
        if header.shape[2:] not in {(), (1,), (3,)} or not all(
            0 < side <= _LARGEST_SIDE for side in header.shape
        ):
            raise DataRefused(
                f"{pair.images.name}: images of the shape {header.shape}; expected height and width"
                f" of 1 to {_LARGEST_SIDE:,}, and 1 or 3 channels"
            )
        size = int(np.prod(header.shape))
        _check_limits(request, pair, header.count, size)
        digits = _labels(labels, pair.labels.name)
        if len(digits) != header.count:
            raise DataRefused(
                f"{request.shown}: {header.count:,} images in {pair.images.name}, but"
                f" {len(digits):,} labels in {pair.labels.name}; are both of one set?"
            )
        inner = pair.name or "all"
        (folder / inner).mkdir(parents=True)
        width = len(str(max(header.count - 1, 0)))
        names = [f"{inner}/{i:0{width}}.png" for i in range(header.count)]
        with progress("unpack", header.count) as step:
            for name, pixels in zip(names, _items(images, header, size, pair), strict=True):
                (folder / name).write_bytes(png_bytes(pixels))
                step.advance()
        if images.read(1):
            raise DataRefused(_lies(pair.images.name, header.count, "more"))
    return names, [str(digit) for digit in digits]


def _check_limits(request: Request, pair: _Pair, count: int, size: int) -> None:
    limits = request.limits
    for found, key in ((count, "files"), (count * size, "bytes"), (size, "file_bytes")):
        if found > getattr(limits, key):
            raise DataRefused(
                f"{pair.images.name}: {count:,} images of {size:,} bytes;"
                f" ingest.limits.{key} in params.yaml allows {getattr(limits, key):,}"
            )


def _items(
    stream: Unpacked, header: _Header, size: int, pair: _Pair
) -> Iterator[NDArray[np.uint8]]:
    for _ in range(header.count):
        data = _exactly(stream, size)
        if len(data) < size:
            raise DataRefused(_lies(pair.images.name, header.count, "fewer"))
        yield np.frombuffer(data, np.uint8).reshape(header.shape)


def _labels(stream: Unpacked, name: str) -> NDArray[np.uint8]:
    header = _header(stream, name, (1,))
    parts: list[NDArray[Any]] = []
    read = 0
    while read <= header.count and (data := stream.read(_LABELS)):
        parts.append(np.frombuffer(data, np.uint8))
        read += len(data)
    if read != header.count:
        raise DataRefused(_lies(name, header.count, "more" if read > header.count else "fewer"))
    return np.concatenate([np.zeros(0, np.uint8), *parts])


def _header(stream: Unpacked, name: str, dimensions: tuple[int, ...]) -> _Header:
    start = _exactly(stream, 4)
    if len(start) < 4 or start[:2] != b"\0\0":
        raise DataRefused(f"{name}: no IDX file; get it anew")
    kind, number = start[2], start[3]
    if kind != _UBYTE or number not in dimensions:
        raise DataRefused(
            f"{name}: values of type 0x{kind:02x} in {number} dimensions; expected bytes (0x08) in"
            f" {' or '.join(map(str, dimensions))}"
        )
    sizes = _exactly(stream, 4 * number)
    if len(sizes) < 4 * number:
        raise DataRefused(f"{name}: ends within its header; get it anew")
    count, *shape = struct.unpack(f">{number}I", sizes)
    return _Header(count, tuple(shape))


def _exactly(stream: Unpacked, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size and (part := stream.read(size - len(parts))):
        parts += part
    return bytes(parts)


def _lies(name: str, count: int, what: str) -> str:
    return f"{name}: {what} items than the {count:,} its header claims; get it anew"
