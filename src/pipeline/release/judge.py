"""Brings the challenger and the champion, with what each says of the same images, to the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.pack import Packed
from pipeline.errors import PipelineError
from pipeline.evaluation.bootstrap import Resampling
from pipeline.evaluation.predictions import Predictions
from pipeline.params import Params
from pipeline.release.champion import load_version
from pipeline.release.gate import Candidate, Images, Rules, Split, Verdict, decide
from pipeline.tracking import Store
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


def judge(
    workspace: Workspace,
    params: Params,
    store: Store,
    challenger: Challenger,
    champion: ModelVersion | None,
) -> Verdict:
    """What the gate says of ``challenger``, by the validation and test images as packed now.

    Raises:
        PipelineError: the evaluation is of other weights or images, the champion's files are
            missing, or it knows other classes.
    """
    packed = challenger.packed
    rows = {split: packed.rows(split) for split in _SPLITS}
    settings = params.register_
    return decide(
        _ours(workspace, challenger, rows),
        None if champion is None else _theirs(workspace, store, champion, packed, rows),
        {split: _images(packed, numbers) for split, numbers in rows.items()},
        Rules(params.compare.metric, settings.min_gain, settings.max_loss),
        Resampling(settings.resamples, params.evaluate.confidence, settings.seed),
    )


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
        lambda split: predictions.samples[split].probabilities,
    )


def _theirs(
    workspace: Workspace,
    store: Store,
    champion: ModelVersion,
    packed: Packed,
    rows: dict[Split, NDArray[np.int64]],
) -> Candidate:
    """The champion, which is asked about the images as they are now."""
    model = load_version(store, champion)
    return Candidate(
        model.weights_sha256,
        model.card.classes,
        model.trained_on,
        lambda split: model.probabilities_of_packed(workspace, packed, rows[split]),
    )


def _images(packed: Packed, rows: NDArray[np.int64]) -> Images:
    index = packed.index.iloc[rows]
    return Images(
        index["image_id"].to_numpy(), index["target"].to_numpy(), index["weight"].to_numpy()
    )
