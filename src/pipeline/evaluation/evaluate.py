"""The stage ``evaluate@VARIANT``: measure a trained variant on validation and test images."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.artifacts import replacing_folder, require, sha256_file, write_json
from pipeline.console import logger
from pipeline.data.pack import Packed
from pipeline.errors import DataRefused, PipelineError
from pipeline.evaluation import curves
from pipeline.evaluation.bootstrap import Resampling
from pipeline.evaluation.gallery import worst_mistakes
from pipeline.evaluation.measure import Results, measure
from pipeline.evaluation.predictions import SPLITS, Predictions
from pipeline.evaluation.report import REPORT, Findings, write_report
from pipeline.evaluation.wording import percent, span
from pipeline.params import EvaluateParams, Params
from pipeline.vision.card import HISTORY, WEIGHTS, ModelCard
from pipeline.vision.inference import best_device, load_classifier, predict_logits
from pipeline.vision.metrics import Floats
from pipeline.workspace import Workspace


def evaluate(workspace: Workspace, params: Params, variant: str) -> None:
    """Write ``artifacts/evaluation/VARIANT`` and ``artifacts/reports/VARIANT``.

    ``predictions.parquet`` holds what the model said of every image, ``metrics.json`` all numbers
    with their intervals, ``curves/`` the tables that `compare` joins for ``dvc plots``. The same
    model and data give the same bytes.

    Raises:
        ConfigurationError: ``params.yaml`` has no such variant.
        DataRefused: there are no validation or no test images.
        PipelineError: the model or the packed data is missing, or they do not belong together.
    """
    settings = params.variant(variant)
    folder = workspace.evaluation(variant)
    packed = Packed.load(workspace.packed)
    predictions, card = predict(workspace, packed, variant, params.evaluate, settings.device)
    history = pd.read_csv(require(workspace.model(variant) / HISTORY))
    results = measure(predictions, Resampling.of(params.evaluate))

    predictions.write(folder / "predictions.parquet")
    write_json(folder / "metrics.json", results.as_json())
    _write_curves(workspace, variant, predictions, history)
    mistakes = worst_mistakes(packed, predictions, params.evaluate.gallery)
    findings = Findings(card, predictions, results, mistakes, history)
    write_report(workspace.report(variant), findings, params)
    _log(workspace, variant, results)


def predict(
    workspace: Workspace, packed: Packed, variant: str, params: EvaluateParams, device: str
) -> tuple[Predictions, ModelCard]:
    """What the variant's model says of the validation and test images of ``packed``."""
    folder = workspace.model(variant)
    place = best_device(device)
    classifier, card = load_classifier(folder, place)
    if (card.data_digest, card.classes) != (packed.digest, packed.classes):
        raise PipelineError(
            f"{folder}: was trained on other data than {workspace.packed} holds now;"
            f" run 'dvc repro train@{variant}' first"
        )
    rows = np.concatenate([_rows(packed, split) for split in SPLITS])
    logits = predict_logits(
        classifier,
        packed.images,
        rows=rows,
        batch_size=params.batch_size,
        device=place,
        image_size=card.image_size,
        precision=card.plan["precision"],
        memory_format=card.plan["memory_format"],
        what=f"predicting with {variant}",
    )
    if not np.isfinite(logits).all():
        raise PipelineError(
            f"{folder}: the model's output is not finite; train the variant anew, with a lower lr"
        )
    return (
        Predictions.of(
            packed,
            rows,
            softmax(logits),
            weights_sha256=sha256_file(folder / WEIGHTS),
            parameters=card.parameters,
        ),
        card,
    )


def softmax(logits: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Floats:
    """Probabilities (N, K) from logits (N, K)."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _rows(packed: Packed, split: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    rows = packed.rows(split)
    if not len(rows):
        raise DataRefused(
            f"artifacts/split.parquet: no image is in the split '{split}', so nothing can be"
            " measured on it; raise its share in split.ratios, or its rows in the column 'split'"
        )
    return rows


def _write_curves(
    workspace: Workspace, variant: str, predictions: Predictions, history: pd.DataFrame
) -> None:
    sample = predictions.samples["test"]
    tables = {
        "roc": curves.mean_roc(sample),
        "pr": curves.mean_precision_recall(sample),
        "calibration": curves.calibration(sample),
        "confusion": curves.confusion(sample, predictions.classes),
        "training": curves.training(history),
    }
    with replacing_folder(workspace.evaluation(variant) / "curves") as folder:
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


def _log(workspace: Workspace, variant: str, results: Results) -> None:
    accuracy, balanced = (results.metrics["test"][m] for m in ("accuracy", "balanced_accuracy"))
    logger.info(
        "evaluated %s on %s test images: accuracy %s (%s), balanced accuracy %s (%s)",
        variant,
        f"{results.images['test']:,}",
        percent(accuracy.value),
        span(accuracy),
        percent(balanced.value),
        span(balanced),
    )
    for note in results.slices.notes:
        logger.info("slices by %s", note)
    logger.info(
        "wrote %s and %s",
        workspace.evaluation(variant).relative_to(workspace.root),
        (workspace.report(variant) / REPORT).relative_to(workspace.root),
    )
