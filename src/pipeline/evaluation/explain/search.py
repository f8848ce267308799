"""``python -m pipeline search``: the images that a network takes for most like a given one."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.artifacts import read_json, write_text
from pipeline.console import logger
from pipeline.data.decode import DecodeError
from pipeline.data.pack import Packed
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.evaluation.explain.embedding import observe_batches
from pipeline.evaluation.explain.index import KINDS, Index
from pipeline.evaluation.explain.nearest import nearest
from pipeline.evaluation.explain.pictures import photograph
from pipeline.evaluation.page import render_page
from pipeline.params import Params
from pipeline.vision.batches import resize, to_float
from pipeline.vision.inference import MAX_BYTES, best_device, decode_for_model, load_classifier
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Match:
    """An image of the packed data, and how alike it is."""

    file_name: str
    label: str
    split: str
    cosine: float
    """Of the angle between the embeddings: 1 for the same direction."""
    picture: str
    """A PNG as a data URI."""


def search(
    workspace: Workspace,
    params: Params,
    image: Path,
    output: Path,
    *,
    variant: str | None = None,
    count: int = 24,
    edges: bool = False,
) -> list[Match]:
    """Write a page of the ``count`` packed images nearest to ``image``, and return them.

    Exact, among all packed images.

    Args:
        workspace: whose models and data.
        params: which variants there are.
        image: an image file.
        output: the HTML file.
        variant: whose embedding; by default the challenger's, or the first variant's before
            variants are compared.
        count: at least 1.
        edges: compare the edges of the images: shapes rather than shades.

    Raises:
        ConfigurationError: there is no such variant or file, the file cannot be read, or ``output``
            is no HTML file.
        PipelineError: the index is missing or stale, or the file is no usable image.
    """
    if output.suffix.lower() not in {".html", ".htm"}:
        raise ConfigurationError(f"{output}: search writes a page; name it with .html at the end")
    variant = variant or _best_variant(workspace, params)
    device = best_device(params.variant(variant).device)
    packed = Packed.load(workspace.packed)
    index = Index.load(workspace, variant, packed)
    kind = "edges" if edges else "pixels"
    query, embedding = _embed(image, kind, workspace.model(variant), device)
    rows, cosines = nearest(getattr(index, kind), embedding, count)
    matches = _matches(packed, rows[0], cosines[0])
    page = render_page(
        "search.html.jinja",
        image=image.name,
        picture=photograph(query),
        matches=matches,
        variant=variant,
        edges=edges,
        images=len(packed.index),
    )
    write_text(output, page)
    logger.info(
        "the %d of %s images most like %s to %s: %s",
        len(matches),
        f"{len(packed.index):,}",
        image.name,
        variant,
        output,
    )
    return matches


def _embed(
    image: Path, kind: str, model: Path, device: torch.device
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The image as it is decoded for the model, (H, W, C), and its embedding, (1, D)."""
    classifier, card = load_classifier(model, device)
    try:
        query = decode_for_model(_read(image), card)
    except DecodeError as error:
        raise PipelineError(f"{image}: no usable image: {error}") from error
    pixels = to_float(resize(torch.from_numpy(query[None].copy()).to(device), card.image_size))
    return query, observe_batches(classifier, card, [KINDS[kind](pixels, card)]).embeddings


def _matches(packed: Packed, rows: NDArray[np.int64], cosines: NDArray[np.float32]) -> list[Match]:
    table = packed.index.iloc[rows]
    return [
        Match(str(name), str(label), str(split), float(cosine), photograph(packed.images[row]))
        for name, label, split, row, cosine in zip(
            table["file_name"], table["label"], table["split"], rows, cosines, strict=True
        )
    ]


def _best_variant(workspace: Workspace, params: Params) -> str:
    if workspace.selection.is_file():
        challenger = str(read_json(workspace.selection)["challenger"])
        if challenger in params.variants:
            return challenger
    return next(iter(params.variants))


def _read(image: Path) -> bytes:
    try:
        if image.is_dir():
            raise ConfigurationError(f"{image}: is a folder; name one image")
        status = image.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device may have no end
            raise ConfigurationError(f"{image}: is no file; name an image file")
        if status.st_size > MAX_BYTES:
            raise DecodeError("too_large", f"{status.st_size:,} bytes, above {MAX_BYTES:,}")
        return image.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(f"{image}: does not exist; name an image file") from None
    except OSError as error:
        raise ConfigurationError(
            f"{image}: cannot be read ({error.strerror}); name an image file that can"
        ) from error
