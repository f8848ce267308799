"""``python -m pipeline predict``: label images with the champion."""

from __future__ import annotations

import contextlib
import csv
import os
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.artifacts import replacing
from pipeline.console import logger, progress
from pipeline.data.decode import DecodeError
from pipeline.data.pack import Pixels
from pipeline.data.sources.source import IMAGE_SUFFIXES
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.machine import processors
from pipeline.params import RegisterParams
from pipeline.release.champion import (
    BATCH,
    CHAMPION,
    RegisteredModel,
    load_version,
    version_called,
)
from pipeline.tracking import open_store
from pipeline.tracking.store import answering
from pipeline.vision.card import ModelCard
from pipeline.vision.inference import MAX_BYTES, decode_for_model
from pipeline.workspace import Workspace


@dataclass
class _Tally:
    """What was predicted how often, and how many files were unreadable."""

    labels: Counter[str]
    unreadable: int = 0


def predict(
    workspace: Workspace, params: RegisterParams, paths: Sequence[Path], output: Path | None
) -> None:
    """Write a CSV with a row for each image: file, label, probability, p_CLASS for each, error.

    Folders are searched for images at any depth; a file that is named is read whatever its name
    ends in. A file that is no usable image has an ``error`` and no label. Memory stays bounded for
    any number of images.

    Args:
        workspace: whose store holds the champion.
        params: which model's.
        paths: images and folders.
        output: the CSV, replaced as a whole when all is predicted; None for standard output.

    Raises:
        ConfigurationError: a path does not exist, holds no image, or ``output`` is a folder.
        PipelineError: there is no champion.
        StoreAway: the store does not answer.
    """
    if output is not None and output.is_dir():
        raise ConfigurationError(f"{output}: is a folder; name the CSV file to write")
    images = [file for path in paths for file in _images(path)]
    champion = load_champion(workspace, params)
    tally = _Tally(Counter())
    with _writing(output) as file:
        _write(file, champion, images, tally)
    counts = ", ".join(f"{count:,} {label}" for label, count in sorted(tally.labels.items()))
    logger.info(
        "labelled by version %s of %s: %s", champion.version, params.model, counts or "nothing"
    )
    if tally.unreadable:
        logger.warning(
            "%s of %s files could not be read; the column 'error' says why",
            f"{tally.unreadable:,}",
            f"{len(images):,}",
        )
    if output is not None:
        logger.info("wrote %s", output)


def load_champion(workspace: Workspace, params: RegisterParams) -> RegisteredModel:
    """The champion, on the GPU where there is one.

    Raises:
        PipelineError: there is none.
        StoreAway: the store does not answer.
    """
    store = open_store(workspace)
    with answering(store.uri):
        version = version_called(store, params.model, CHAMPION)
        if version is None:
            raise PipelineError(
                f"{params.model} has no champion yet: 'make run' trains and registers one"
            )
        return load_version(store, version)


def _images(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.exists():
        raise ConfigurationError(f"{path}: does not exist; name images, or folders of images")
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not found:
        raise ConfigurationError(
            f"{path}: holds no images, which are files named {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return found


def _write(file: IO[str], champion: RegisteredModel, images: Sequence[Path], tally: _Tally) -> None:
    classes = champion.card.classes
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["file", "label", "probability", *(f"p_{name}" for name in classes), "error"])
    with progress("predicting", len(images)) as step:
        for paths, decoded in _decoded(images, champion.card):
            readable = [pixels for pixels in decoded if not isinstance(pixels, _Unreadable)]
            rows = iter(champion.probabilities(np.stack(readable)).tolist() if readable else [])
            for path, pixels in zip(paths, decoded, strict=True):
                if isinstance(pixels, _Unreadable):
                    tally.unreadable += 1
                    writer.writerow([path, "", "", *("" for _ in classes), pixels.reason])
                    continue
                row = next(rows)
                highest = max(row)
                label = classes[row.index(highest)]
                tally.labels[label] += 1
                writer.writerow([path, label, *(f"{p:.6f}" for p in (highest, *row)), ""])
            step.advance(len(paths))


@dataclass(frozen=True)
class _Unreadable:
    reason: str


def _decoded(
    images: Sequence[Path], card: ModelCard
) -> Iterator[tuple[Sequence[Path], list[Pixels | _Unreadable]]]:
    """Batches of files with what became of each; the next batch is decoded meanwhile."""
    under_way: deque[tuple[Sequence[Path], list[Future[Pixels | _Unreadable]]]] = deque()
    with ThreadPoolExecutor(processors()) as pool:
        for start in range(0, len(images), BATCH):
            paths = images[start : start + BATCH]
            under_way.append((paths, [pool.submit(_decode, path, card) for path in paths]))
            if len(under_way) > 1:
                yield _done(*under_way.popleft())
        for batch in under_way:
            yield _done(*batch)


def _done(
    paths: Sequence[Path], futures: list[Future[Pixels | _Unreadable]]
) -> tuple[Sequence[Path], list[Pixels | _Unreadable]]:
    return paths, [future.result() for future in futures]


def _decode(path: Path, card: ModelCard) -> Pixels | _Unreadable:
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            return _Unreadable(f"{size:,} bytes, above {MAX_BYTES:,}")
        return decode_for_model(path.read_bytes(), card)
    except DecodeError as error:
        return _Unreadable(str(error))
    except OSError as error:
        return _Unreadable(error.strerror or type(error).__name__)


@contextlib.contextmanager
def _writing(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader, such as `head`, has seen enough; what Python flushes at exit goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    with replacing(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield file
