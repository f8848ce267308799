"""Models in the registry: finding, fetching and asking them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.artifacts import require, sha256_file, temporary_folder
from pipeline.data.decode import DecodeError
from pipeline.data.pack import Packed, Pixels
from pipeline.errors import PipelineError
from pipeline.machine import processors
from pipeline.release.package import MODEL, TRAINED_ON
from pipeline.tracking import WEIGHTS, Store
from pipeline.vision import card as files
from pipeline.vision.card import ModelCard
from pipeline.vision.inference import (
    best_device,
    decode_for_model,
    load_classifier,
    predict_logits,
)
from pipeline.vision.metrics import Floats
from pipeline.vision.models import Classifier
from pipeline.vision.temperature import read_temperature, softmax
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
CHALLENGER = "challenger"
BATCH = 256


def versions(store: Store, model: str) -> list[ModelVersion]:
    """All versions of ``model``, the newest first."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = store.client.search_model_versions(f"name = '{model}'", page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda version: -int(version.version))


def version_called(store: Store, model: str, alias: str) -> ModelVersion | None:
    """The version of ``model`` that ``alias`` points to; None where it points to none."""
    from mlflow.exceptions import MlflowException

    absent = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"}
    try:
        return store.client.get_model_version_by_alias(model, alias)
    except MlflowException as error:
        if error.error_code not in absent:
            raise
        return None


@dataclass(frozen=True)
class RegisteredModel:
    """A model from the registry, ready to predict."""

    version: str
    weights_sha256: str
    card: ModelCard
    classifier: Classifier
    device: torch.device
    trained_on: frozenset[str]
    """The ids of the images it learned from."""
    temperature: float = 1.0
    """Of its probabilities; 1.0 for a model that was registered without."""

    def probabilities(self, images: Pixels) -> Floats:
        """(N, K) calibrated, for images (N, H, W, C) in its `ModelCard.stored_size`."""
        return softmax(self._logits(images), self.temperature)

    def _logits(self, images: Pixels) -> NDArray[np.float32]:
        return predict_logits(
            self.classifier,
            images,
            image_size=self.card.image_size,
            device=self.device,
            batch_size=BATCH,
            precision=self.card.plan["precision"],
            memory_format=self.card.plan["memory_format"],
        )

    def probabilities_of_packed(
        self, workspace: Workspace, packed: Packed, rows: NDArray[np.int64]
    ) -> Floats:
        """(len(rows), K) for the images at ``rows`` of ``packed``, as the network gives them.

        Not calibrated, as those of an evaluation: two models are compared by their networks.
        Where they are packed in another size or with other channels than the model was trained
        with, it gets the original files as it would get them in use.

        Raises:
            PipelineError: an original file is missing or no image.
        """
        parts = [np.empty((0, len(self.card.classes)))]
        alike = (packed.image_size, packed.channels) == (self.card.stored_size, self.card.channels)
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            if alike:
                images = packed.images[batch]
            else:
                names = packed.index["file_name"].iloc[batch]
                images = self._decode([workspace.data / name for name in names])
            parts.append(softmax(self._logits(images)))
        return np.concatenate(parts)

    def _decode(self, paths: Sequence[Path]) -> Pixels:
        def decode(path: Path) -> Pixels:
            try:
                return decode_for_model(path.read_bytes(), self.card)
            except (OSError, DecodeError) as error:
                raise PipelineError(
                    f"{path}: cannot be read ({error}); 'python -m pipeline data restore' brings"
                    " the data back"
                ) from error

        with ThreadPoolExecutor(processors()) as pool:
            return np.stack(list(pool.map(decode, paths)))


def load_version(store: Store, version: ModelVersion) -> RegisteredModel:
    """Load a version's model folder, without MLflow's wrapping, onto the best device.

    Raises:
        PipelineError: its files are missing or are not those that were registered.
    """
    with _fetched(store, version) as folder:
        if not folder.is_dir():
            raise PipelineError(
                f"{version.name}, version {version.version}: its files are not at {folder}; bring"
                " them back, or give its alias to another version on MLflow's page"
            )
        weights = sha256_file(require(folder / files.WEIGHTS))
        if weights != version.tags.get(WEIGHTS, weights):
            raise PipelineError(
                f"{folder / files.WEIGHTS}: not the weights that version {version.version} of"
                f" {version.name} was registered with; delete the version, or restore the file"
            )
        device = best_device()
        classifier, card = load_classifier(folder, device)
        trained_on = frozenset(require(folder / TRAINED_ON).read_text("ascii").split())
        temperature = read_temperature(folder)
    return RegisteredModel(
        str(version.version), weights, card, classifier, device, trained_on, temperature
    )


@contextlib.contextmanager
def _fetched(store: Store, version: ModelVersion) -> Iterator[Path]:
    """The version's model folder on this machine; where it must be fetched, for the body alone."""
    root = store.client.get_model_version_download_uri(version.name, version.version)
    location = f"{root.rstrip('/')}/artifacts/{MODEL}"
    address = urlsplit(location)
    if address.scheme in {"", "file"}:
        yield Path(unquote(address.path) if address.scheme else location)
        return
    from mlflow.artifacts import download_artifacts

    with temporary_folder("pipeline-scratch-champion-") as folder:
        yield Path(download_artifacts(location, dst_path=str(folder), tracking_uri=store.uri))
