"""The stage ``evaluate@VARIANT``: measure a trained variant on validation and test images."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from pipeline.artifacts import replacing_folder, require, sha256_file, write_json
from pipeline.console import logger
from pipeline.data.pack import Packed
from pipeline.errors import DataRefused, PipelineError
from pipeline.evaluation import curves
from pipeline.evaluation.bootstrap import Resampling
from pipeline.evaluation.measure import Results, measure
from pipeline.evaluation.predictions import SPLITS, Predictions
from pipeline.evaluation.report import REPORT, Told, write_report
from pipeline.evaluation.section import Evaluated
from pipeline.evaluation.sections import SECTIONS, check_sections
from pipeline.evaluation.wording import percent, span
from pipeline.params import Params
from pipeline.vision.allocator import keep_freed_memory
from pipeline.vision.card import HISTORY, WEIGHTS
from pipeline.vision.inference import best_device, load_classifier, predict_logits
from pipeline.vision.temperature import FILE, Calibration, softmax
from pipeline.workspace import Workspace


def evaluate(workspace: Workspace, params: Params, variant: str) -> None:
    """Write ``artifacts/evaluation/VARIANT`` and ``artifacts/reports/VARIANT``.

    ``predictions.parquet`` holds what the model said of every image, ``metrics.json`` all numbers
    with their intervals, ``sections.json`` those of the report's sections, ``calibration.json`` the
    temperature, ``curves/`` the tables that `compare` joins for ``dvc plots``. The same model and
    data give the same bytes; what differs from run to run stands beside the report.

    Raises:
        ConfigurationError: ``params.yaml`` has no such variant, or asks for what is not there.
        DataRefused: there are no validation or no test images.
        PipelineError: the model or the packed data is missing, or they do not belong together.
    """
    device = params.variant(variant).device
    check_sections(params.evaluate.sections)
    keep_freed_memory()
    folder = workspace.evaluation(variant)
    evaluated = predict(workspace, Packed.load(workspace.packed), variant, params, device)
    told = {name: _tell(name, evaluated) for name in params.evaluate.sections}

    evaluated.predictions.write(folder / "predictions.parquet")
    write_json(folder / "metrics.json", evaluated.results.as_json())
    write_json(
        folder / "sections.json",
        {name: dict(each.found.numbers) for name, each in told.items() if each.found.numbers},
    )
    weights = evaluated.predictions.weights_sha256
    Calibration(evaluated.results.temperature, weights).write(folder / FILE)
    _write_curves(workspace, variant, evaluated.predictions, evaluated.history)
    write_report(workspace.report(variant), evaluated, told)
    _log(workspace, variant, evaluated.results)


def predict(
    workspace: Workspace, packed: Packed, variant: str, params: Params, device: str
) -> Evaluated:
    """The variant's model with what it says of the validation and test images of ``packed``."""
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
        batch_size=params.evaluate.batch_size,
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
    predictions = Predictions.of(
        packed,
        rows,
        softmax(logits),
        weights_sha256=sha256_file(folder / WEIGHTS),
        parameters=card.parameters,
    )
    return Evaluated(
        card=card,
        classifier=classifier,
        device=place,
        packed=packed,
        predictions=predictions,
        results=measure(predictions, Resampling.of(params.evaluate)),
        history=pd.read_csv(require(folder / HISTORY)),
        params=params,
    )


def _tell(name: str, evaluated: Evaluated) -> Told:
    start = time.perf_counter()
    found = SECTIONS[name].find(evaluated)
    return Told(found, time.perf_counter() - start)


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
