"""Brings the challenger and the champion, with what each says of the same images, to the gate."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts import read_json
from pipeline.data.pack import Packed
from pipeline.errors import PipelineError
from pipeline.evaluation.bootstrap import Resampling
from pipeline.evaluation.cost import measure_cost
from pipeline.evaluation.predictions import Predictions, group_numbers
from pipeline.params import Params
from pipeline.release.champion import RegisteredModel, load_version
from pipeline.release.gate import Candidate, Images, Rules, Split, Verdict, decide
from pipeline.release.gate_page import Side, render_gate
from pipeline.tracking import Store
from pipeline.vision.card import ModelCard
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_SPLITS: tuple[Split, ...] = ("val", "test")


@dataclass(frozen=True)
class Challenger:
    """The variant that ``compare`` chose."""

    variant: str
    weights_sha256: str
    run_id: str
    packed: Packed
    """The images it was trained and evaluated on."""


@dataclass(frozen=True)
class Judgement:
    """The verdict, and the page that shows what it rests on, where two models were compared."""

    verdict: Verdict
    page: str | None


def judge(
    workspace: Workspace,
    params: Params,
    store: Store,
    challenger: Challenger,
    champion: ModelVersion | None,
) -> Judgement:
    """What the gate says of ``challenger``, by the validation and test images as packed now.

    Raises:
        PipelineError: the evaluation is of other weights or images, the champion's files are
            missing, or it knows other classes.
    """
    packed = challenger.packed
    rows = {split: packed.rows(split) for split in _SPLITS}
    settings = params.register_
    rules = Rules(params.compare.metric, settings.min_gain, settings.max_loss)
    resampling = Resampling(settings.resamples, params.evaluate.confidence, settings.seed)
    images = {split: _images(packed, numbers) for split, numbers in rows.items()}
    ours = _ours(workspace, challenger, rows)
    if champion is None:
        return Judgement(decide(ours, None, images, rules, resampling), None)
    model = load_version(store, champion)
    theirs = _theirs(workspace, model, packed, rows)
    verdict = decide(ours, theirs, images, rules, resampling)
    if not verdict.numbers:
        return Judgement(verdict, None)
    sections = read_json(workspace.evaluation(challenger.variant) / "sections.json")
    parameters = ModelCard.read(workspace.model(challenger.variant)).parameters
    page = render_gate(
        verdict,
        Side(challenger.variant, ours, parameters, sections.get("cost")),
        Side(
            f"champion, version {model.version}",
            theirs,
            model.card.parameters,
            asdict(measure_cost(model.classifier, model.card.image_size)),
        ),
        images,
        rules.metric,
        resampling,
    )
    return Judgement(verdict, page)


def _ours(
    workspace: Workspace, challenger: Challenger, rows: dict[Split, NDArray[np.int64]]
) -> Candidate:
    """The challenger, whose probabilities its evaluation has."""
    folder = workspace.evaluation(challenger.variant)
    predictions = Predictions.read(folder / "predictions.parquet")
    ids = challenger.packed.index["image_id"]
    if predictions.weights_sha256 != challenger.weights_sha256 or not all(
        np.array_equal(predictions.of_split(split)["image_id"], ids.iloc[numbers])
        for split, numbers in rows.items()
    ):
        raise PipelineError(
            f"{folder}: is of another model or other images than there are now; run 'dvc repro'"
            " first"
        )
    return Candidate(
        challenger.weights_sha256,
        challenger.packed.classes,
        frozenset(ids.iloc[challenger.packed.rows("train")]),
        cache(lambda split: predictions.samples[split].probabilities),
    )


def _theirs(
    workspace: Workspace,
    model: RegisteredModel,
    packed: Packed,
    rows: dict[Split, NDArray[np.int64]],
) -> Candidate:
    """The champion, which is asked about the images as they are now."""
    return Candidate(
        model.weights_sha256,
        model.card.classes,
        model.trained_on,
        cache(lambda split: model.probabilities_of_packed(workspace, packed, rows[split])),
    )


def _images(packed: Packed, rows: NDArray[np.int64]) -> Images:
    index = packed.index.iloc[rows]
    return Images(
        index["image_id"].to_numpy(),
        index["file_name"].to_numpy(),
        index["target"].to_numpy(),
        index["weight"].to_numpy(),
        group_numbers(index),
    )
