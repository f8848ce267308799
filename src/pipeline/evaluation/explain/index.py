"""The stage ``index@VARIANT``: embeddings of all packed images, for `search`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.artifacts import read_json, replacing_folder, require, sha256_file, write_json
from pipeline.console import logger
from pipeline.data.pack import Packed
from pipeline.errors import PipelineError
from pipeline.evaluation.explain.edges import sobel
from pipeline.evaluation.explain.embedding import observe
from pipeline.params import Params
from pipeline.vision.allocator import keep_freed_memory
from pipeline.vision.card import WEIGHTS, ModelCard
from pipeline.vision.inference import best_device, load_classifier
from pipeline.workspace import Workspace

CARD = "index.json"


def as_it_is(images: Tensor, card: ModelCard) -> Tensor:
    """The image itself."""
    del card
    return images


def edges(images: Tensor, card: ModelCard) -> Tensor:
    """(N, C, H, W) in [0, 1] -> the same of its edges, as light and rich in contrast as photographs
    are: the network has seen nothing else."""
    found = sobel(images)
    spread, middle = torch.std_mean(found, dim=(2, 3), keepdim=True)
    mean, std = (torch.tensor(each).to(images).view(-1, 1, 1) for each in (card.mean, card.std))
    return ((found - middle) / spread.clamp(min=1e-6) * std + mean).clamp(0, 1)


KINDS: dict[str, Callable[[Tensor, ModelCard], Tensor]] = {"pixels": as_it_is, "edges": edges}
"""What is done to images before they are embedded, by the name of the index's file."""


@dataclass(frozen=True, eq=False)
class Index:
    """The embeddings of all images of the packed data; row i is image i."""

    pixels: NDArray[np.float32]
    """(N, D), of length 1, mapped into memory."""
    edges: NDArray[np.float32]
    """Likewise, of the images' edges: their shapes without their shades."""

    @classmethod
    def load(cls, workspace: Workspace, variant: str, packed: Packed) -> Index:
        """Open what `index` wrote.

        Raises:
            PipelineError: it is missing, or was made by another model or of other data.
        """
        folder = workspace.index(variant)
        card = read_json(require(folder / CARD))
        weights = sha256_file(require(workspace.model(variant) / WEIGHTS))
        if (card["weights_sha256"], card["data_digest"]) != (weights, packed.digest):
            raise PipelineError(
                f"{folder}: was made by another model or of other data than there are now; run"
                f" 'dvc repro index@{variant}'"
            )
        arrays = {
            kind: np.load(require(folder / f"{kind}.npy"), mmap_mode="r", allow_pickle=False)
            for kind in KINDS
        }
        return cls(**arrays)


def index(workspace: Workspace, params: Params, variant: str) -> None:
    """Write ``artifacts/index/VARIANT``. The same model and data give the same bytes.

    Raises:
        ConfigurationError: ``params.yaml`` has no such variant.
        PipelineError: the model or the packed data is missing, or what the model decides by cannot
            be read.
    """
    device = best_device(params.variant(variant).device)
    keep_freed_memory()
    packed = Packed.load(workspace.packed)
    folder = workspace.model(variant)
    classifier, card = load_classifier(folder, device)
    rows = np.arange(len(packed.index))
    with replacing_folder(workspace.index(variant)) as temporary:
        for kind, change in KINDS.items():
            observed = observe(
                classifier,
                card,
                packed,
                rows,
                device=device,
                change=change,
                batch_size=params.evaluate.batch_size,
            )
            _write(temporary / f"{kind}.npy", observed.embeddings)
        write_json(
            temporary / CARD,
            {
                "variant": variant,
                "weights_sha256": sha256_file(folder / WEIGHTS),
                "data_digest": packed.digest,
            },
        )
    logger.info(
        "indexed %s images by %s in %d dimensions; wrote %s",
        f"{len(rows):,}",
        variant,
        observed.embeddings.shape[1],
        workspace.index(variant).relative_to(workspace.root),
    )


def _write(path: Path, embeddings: NDArray[np.float32]) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array(file, embeddings, version=(1, 0), allow_pickle=False)
