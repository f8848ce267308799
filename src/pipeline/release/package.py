"""A trained variant as an MLflow model: weights, card, code and requirements in one folder."""

from __future__ import annotations

import importlib.metadata
import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from PIL import Image

import pipeline
from pipeline.artifacts import require, sha256_file, temporary_folder
from pipeline.data.pack import Packed
from pipeline.errors import PipelineError
from pipeline.tracking import WEIGHTS, Store
from pipeline.vision import card as files
from pipeline.vision import temperature
from pipeline.vision.card import ModelCard
from pipeline.vision.models import libraries
from pipeline.vision.temperature import Calibration

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

MODEL = "model"
"""The model folder's name within the ``artifacts`` of the MLflow model."""
CALIBRATION = temperature.FILE
"""In that folder: the temperature of its probabilities; a model without is used as it is."""
TRAINED_ON = "trained_on.txt"
"""In that folder: the ids of the images the model learned from, a line each, sorted."""
CODE = (
    *("__init__.py", "artifacts.py", "console.py", "errors.py", "machine.py", "workspace.py"),
    *("data", "params", "vision"),
)
"""What of this package a model takes along: the layers up to the one that predicts."""
REQUIREMENTS = (
    *("mlflow", "numpy", "pandas", "pillow", "psutil", "pyarrow", "pydantic", "pyyaml"),
    *("safetensors", "torch"),
)


def log_model(
    store: Store, run_id: str, folder: Path, packed: Packed, calibration: Calibration
) -> str:
    """Log the model in ``folder`` as an MLflow model of the run, and return its id.

    A model of the same weights that the store already has is taken instead.

    Args:
        store: the open store.
        run_id: of the run that trained it.
        folder: the variant's model folder.
        packed: the images it was trained on.
        calibration: of its probabilities, from its evaluation.

    Raises:
        PipelineError: ``packed`` holds other images, or ``calibration`` is of other weights.
    """
    card = ModelCard.read(folder)
    if card.data_digest != packed.digest:
        raise PipelineError(
            f"{folder}: was trained on other images than those packed now; run 'dvc repro' first"
        )
    weights = sha256_file(require(folder / files.WEIGHTS))
    if calibration.weights_sha256 != weights:
        raise PipelineError(
            f"{CALIBRATION} of {card.variant}: is of other weights; run 'dvc repro' first"
        )
    if (logged := _logged_before(store, weights)) is not None:
        return logged
    with temporary_folder("pipeline-scratch-model-") as staging:
        _stage_model(staging / MODEL, folder, packed)
        calibration.write(staging / MODEL / CALIBRATION)
        _stage_code(staging / "pipeline")
        return _log(store, run_id, staging, card, packed, {WEIGHTS: weights})


def signature(classes: tuple[str, ...]) -> ModelSignature:
    """One column of image bytes in; ``label`` and ``p_CLASS`` for each class out.

    The input's column has no name, since MLflow accepts a plain list for such alone.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    probabilities = [ColSpec(DataType.float, f"p_{name}") for name in classes]
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary)]),
        outputs=Schema([ColSpec(DataType.string, "label"), *probabilities]),
    )


def requirements(card: ModelCard) -> list[str]:
    """What to install beside the model, pinned to what is installed here.

    Local versions such as ``2.11.0+cu128`` are of one machine's build: the public one is named.
    """
    names = [*REQUIREMENTS, *libraries(card.model, card.architecture)]
    versions = {name: importlib.metadata.version(name).partition("+")[0] for name in names}
    return [f"{name}=={version}" for name, version in versions.items()]


def _logged_before(store: Store, weights: str) -> str | None:
    found = store.client.search_logged_models(
        [store.experiment_id], filter_string=f"tags.{WEIGHTS} = '{weights}'"
    )
    ready = [model.model_id for model in found if str(model.status) == "READY"]
    return str(ready[0]) if ready else None


def _stage_model(target: Path, folder: Path, packed: Packed) -> None:
    target.mkdir()
    for name in (files.WEIGHTS, files.CARD, files.HISTORY):
        shutil.copyfile(require(folder / name), target / name)
    ids = sorted(packed.index["image_id"].iloc[packed.rows("train")])
    (target / TRAINED_ON).write_text("".join(f"{i}\n" for i in ids), encoding="ascii")


def _stage_code(target: Path) -> None:
    source = Path(pipeline.__file__).parent
    target.mkdir()
    for name in CODE:
        if (source / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source / name, target / name, ignore=ignored)
        else:
            shutil.copyfile(source / name, target / name)


def _log(
    store: Store,
    run_id: str,
    staging: Path,
    card: ModelCard,
    packed: Packed,
    tags: dict[str, str],
) -> str:
    """As MLflow's ``log_model``, which would load the model twice and predict to check it."""
    import mlflow
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    client = store.client
    logged = client.create_logged_model(
        store.experiment_id,
        name=card.variant,
        source_run_id=run_id,
        tags=tags,
        params={"network": card.model, "parameters": str(card.parameters)},
        model_type="classifier",
    )
    about: Any = Model(
        artifact_path=logged.artifact_location,
        run_id=run_id,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
    )
    mlflow.pyfunc.save_model(
        staging / "saved",
        mlflow_model=about,
        python_model=str(Path(__file__).with_name("pyfunc_model.py")),
        artifacts={MODEL: str(staging / MODEL)},
        code_paths=[str(staging / "pipeline")],
        signature=signature(card.classes),
        input_example=_example(packed),
        pip_requirements=requirements(card),
    )
    for cache in (staging / "saved").rglob("__pycache__"):
        shutil.rmtree(cache)
    client.log_model_artifacts(logged.model_id, str(staging / "saved"))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id)


def _example(packed: Packed) -> pd.DataFrame:
    """A validation image as a PNG file's bytes."""
    row = packed.rows("val")[0]
    buffer = io.BytesIO()
    Image.fromarray(packed.images[row].squeeze()).save(buffer, "PNG")
    return pd.DataFrame({"image": [buffer.getvalue()]})
