"""A classification data set of torchvision by its name, downloaded once into a cache folder."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.console import logger, progress
from pipeline.data.sources.png import png_bytes
from pipeline.data.sources.source import Listing, Request
from pipeline.errors import ConfigurationError, DataRefused, PipelineError, did_you_mean

FORM = "torchvision:NAME (such as CIFAR10)"

_PREFIX = "torchvision:"

_Options = Mapping[str, object]


@dataclass(frozen=True)
class _Known:
    """Where a data set keeps its images, once it is loaded."""

    splits: Mapping[str, _Options]
    """Ours to the arguments it is made with; ``""`` where it has none."""
    images: str
    """The attribute with paths, with (path, target) pairs, or with one array of all images."""
    targets: str | None = None
    channels_first: bool = False

    @property
    def is_array(self) -> bool:
        return self.images == "data"


_TRAIN_TEST: Mapping[str, _Options] = {"train": {"train": True}, "test": {"train": False}}


def _splits(**names: str) -> Mapping[str, _Options]:
    return {ours: {"split": theirs} for ours, theirs in names.items()}


_TWO = _splits(train="train", test="test")
_THREE = _splits(train="train", val="val", test="test")

_KNOWN = {
    "CIFAR10": _Known(_TRAIN_TEST, "data", "targets"),
    "CIFAR100": _Known(_TRAIN_TEST, "data", "targets"),
    "Country211": _Known(_splits(train="train", val="valid", test="test"), "samples"),
    "DTD": _Known(_THREE, "_image_files", "_labels"),
    "EuroSAT": _Known({"": {}}, "samples"),
    "FashionMNIST": _Known(_TRAIN_TEST, "data", "targets"),
    "Flowers102": _Known(_THREE, "_image_files", "_labels"),
    "Food101": _Known(_TWO, "_image_files", "_labels"),
    "GTSRB": _Known(_TWO, "_samples"),
    "Imagenette": _Known(_splits(train="train", val="val"), "_samples"),
    "KMNIST": _Known(_TRAIN_TEST, "data", "targets"),
    "MNIST": _Known(_TRAIN_TEST, "data", "targets"),
    "OxfordIIITPet": _Known(_splits(train="trainval", test="test"), "_images", "_labels"),
    "RenderedSST2": _Known(_THREE, "_samples"),
    "STL10": _Known(_TWO, "data", "labels", channels_first=True),
    "SVHN": _Known(_TWO, "data", "labels", channels_first=True),
    "USPS": _Known(_TRAIN_TEST, "data", "targets"),
}
"""Those whose downloads torchvision checks against a hash of its own."""


def claims(request: Request) -> bool:
    return request.address.startswith(_PREFIX)


def read(request: Request) -> Listing:
    """Download the data set where the cache lacks it, and list its splits.

    Images that it has as files keep their bytes; arrays become PNGs in the scratch folder.

    Raises:
        ConfigurationError: there is no such data set here.
        DataRefused: a file that would be unpickled has not the hash that torchvision pins.
        PipelineError: it cannot be downloaded.
    """
    name = request.address.removeprefix(_PREFIX)
    if name not in _KNOWN:
        raise ConfigurationError(
            f"'{request.shown}': no data set of that name"
            f"{did_you_mean(name, _KNOWN) or ';'} there are {', '.join(_KNOWN)}"
        )
    known, root = _KNOWN[name], _root(request, name)
    if not root.is_dir() or not any(root.iterdir()):
        _download(request, name, known, root)
    parts = {split: _load(request, name, root, options) for split, options in known.splits.items()}
    folder = request.scratch / "torchvision" if known.is_array else root
    columns: dict[str, list[str]] = {"file_name": [], "label": []}
    if "" not in parts:
        columns["split"] = []
    for split, dataset in parts.items():
        if known.is_array:
            names = _write(request, dataset, known, folder / split)
        else:
            names = _paths(dataset, known, root)
        labels = _labels(dataset, known)
        columns["file_name"] += names
        columns["label"] += labels
        if split:
            columns["split"] += [split] * len(names)
    return Listing(folder.resolve(), columns, origin=f"torchvision's {name}", shown=request.shown)


def _download(request: Request, name: str, known: _Known, root: Path) -> None:
    """Bring the data set into ``root``, whole: to torchvision some are there once a folder is."""
    partial = root.with_name(f"{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for options in known.splits.values():
            _load(request, name, partial, options)
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _root(request: Request, name: str) -> Path:
    return request.cache / "torchvision" / name


def _load(request: Request, name: str, root: Path, options: _Options) -> Any:
    from torchvision import datasets
    from torchvision.datasets.utils import download_and_extract_archive

    kind = getattr(datasets, name)
    root.mkdir(parents=True, exist_ok=True)
    try:
        if issubclass(kind, datasets.CIFAR10):
            # It unpickles: its archive, then each file in it, has to be the one torchvision knows.
            if any(wrong_files(kind, root)):
                logger.info("downloading %s to %s", request.shown, root)
                download_and_extract_archive(kind.url, str(root), None, kind.filename, kind.tgz_md5)
            check_pinned(kind, root, request.shown)
            return kind(str(root), download=False, **options)
        return kind(str(root), download=True, **options)
    except (OSError, RuntimeError, ValueError, EOFError, tarfile.TarError, zipfile.BadZipFile) as e:
        cause = " ".join(str(e).split())[:300]
        raise PipelineError(
            f"'{request.shown}': cannot be downloaded ({cause}); try again where there is a"
            f" network, or put its files below {_root(request, name)}"
        ) from e


def check_pinned(kind: Any, root: Path, shown: str) -> None:
    """See that every file that ``kind`` would unpickle has the MD5 that torchvision pins.

    Raises:
        DataRefused: one has not; it is not opened.
    """
    for path in wrong_files(kind, root):
        raise DataRefused(
            f"'{shown}': {path} has not the hash that torchvision pins, and is not opened, because"
            " reading it could run code; delete it, and ingest again"
        )


def wrong_files(kind: Any, root: Path) -> Iterator[Path]:
    """The pinned files of ``kind`` that are missing or have another MD5."""
    pinned = [*kind.train_list, *kind.test_list, [kind.meta["filename"], kind.meta["md5"]]]
    for name, md5 in pinned:
        path = root / kind.base_folder / name
        if not path.is_file():
            yield path
            continue
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        if digest.hexdigest() != md5:
            yield path


def _paths(dataset: Any, known: _Known, root: Path) -> list[str]:
    entries = getattr(dataset, known.images)
    paths = entries if known.targets else [path for path, _ in entries]
    return [Path(path).resolve().relative_to(root.resolve()).as_posix() for path in paths]


def _write(request: Request, dataset: Any, known: _Known, folder: Path) -> list[str]:
    """Write the images of ``dataset`` as PNGs; returns their names beside ``folder``."""
    images: NDArray[np.uint8] = np.asarray(getattr(dataset, known.images))
    if len(images) > request.limits.files or images.nbytes > request.limits.bytes:
        raise DataRefused(
            f"'{request.shown}': {len(images):,} images of {images.nbytes:,} bytes, more than"
            " ingest.limits in params.yaml allows; raise it"
        )
    folder.mkdir(parents=True)
    width = len(str(len(images) - 1))
    names = [f"{folder.name}/{i:0{width}}.png" for i in range(len(images))]
    with progress("unpack", len(images)) as step:
        for name, pixels in zip(names, images, strict=True):
            upright = pixels.transpose(1, 2, 0) if known.channels_first else pixels
            (folder.parent / name).write_bytes(png_bytes(upright))
            step.advance()
    return names


def _labels(dataset: Any, known: _Known) -> list[str]:
    """The names of the classes, or their numbers where torchvision has no names."""
    entries = getattr(dataset, known.targets or known.images)
    targets = [int(target) for target in (entries if known.targets else [t for _, t in entries])]
    classes = getattr(dataset, "classes", None)
    if classes is None:
        return [str(target) for target in targets]
    names = [name if isinstance(name, str) else name[0] for name in classes]
    return [names[target] for target in targets]
