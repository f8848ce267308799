"""The table of what a variant said about every validation and test image.

All numbers of an evaluation can be worked out again from it, and so can a comparison of two models
on the same images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.artifacts import replacing, require
from pipeline.data.pack import Packed
from pipeline.errors import PipelineError
from pipeline.vision.metrics import Floats, Sample

SPLITS = ("val", "test")
_KNOWN = ("file_name", "image_id", "split", "label", "target", "weight")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the model with ``weights_sha256`` said about the images in ``table``."""

    table: pd.DataFrame
    """A row an image: file_name, image_id, split, label, target, weight, group where
    ``split.group`` is set, the data's extra columns,
    predicted (its class's index), correct, and a float32 column ``p_CLASS`` for each class."""
    classes: tuple[str, ...]
    extra_columns: tuple[str, ...]
    weights_sha256: str
    data_digest: str
    parameters: int
    """How many numbers the model learned."""

    @classmethod
    def of(
        cls,
        packed: Packed,
        rows: np.ndarray[tuple[int], np.dtype[np.int64]],
        probabilities: Floats,
        *,
        weights_sha256: str,
        parameters: int,
    ) -> Predictions:
        """From the probabilities (len(rows), K) of the images at ``rows`` of ``packed``."""
        index = packed.index.iloc[rows].reset_index(drop=True)
        columns = [f"p_{name}" for name in packed.classes]
        scores = pd.DataFrame(probabilities.astype(np.float32), columns=columns)
        predicted = pd.Series(scores.to_numpy().argmax(axis=1).astype(np.int64))
        results = pd.DataFrame({"predicted": predicted, "correct": predicted == index["target"]})
        own = [*_KNOWN, *(["group"] if "group" in index else [])]
        taken = {*own, *results.columns, *columns}
        # A column of the data must not hide one of ours.
        extras = {name: f"data_{name}" if name in taken else name for name in packed.extra_columns}
        known, given = index[own], index[list(extras)].rename(columns=extras)
        return cls(
            table=pd.concat([known, given, results, scores], axis=1),
            classes=packed.classes,
            extra_columns=tuple(extras.values()),
            weights_sha256=weights_sha256,
            data_digest=packed.digest,
            parameters=parameters,
        )

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read what `write` wrote.

        Raises:
            PipelineError: the file is missing, or was not written by this pipeline.
        """
        table = pd.read_parquet(require(path))
        about = table.attrs
        try:
            return cls(
                table=table,
                classes=tuple(about["classes"]),
                extra_columns=tuple(about["extra_columns"]),
                weights_sha256=str(about["weights_sha256"]),
                data_digest=str(about["data_digest"]),
                parameters=int(about["parameters"]),
            )
        except KeyError as error:
            raise PipelineError(
                f"{path}: does not say {error} of its model; run 'dvc repro' to evaluate anew"
            ) from error

    def write(self, path: Path) -> None:
        """Write the table; what is known of model and data goes into the file's own metadata."""
        table = self.table.copy()
        table.attrs = {
            "classes": list(self.classes),
            "extra_columns": list(self.extra_columns),
            "weights_sha256": self.weights_sha256,
            "data_digest": self.data_digest,
            "parameters": self.parameters,
        }
        with replacing(path) as temporary:
            table.to_parquet(temporary, index=False)

    def of_split(self, split: str) -> pd.DataFrame:
        """The rows of ``split``, renumbered from 0."""
        return self.table[self.table["split"] == split].reset_index(drop=True)

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """For each of `SPLITS` its images as the metrics take them, in the order of `of_split`."""
        return {split: self._sample(self.of_split(split)) for split in SPLITS}

    def _sample(self, table: pd.DataFrame) -> Sample:
        probabilities = table[[f"p_{name}" for name in self.classes]].to_numpy(np.float64)
        return Sample.of(table["target"], probabilities, table["weight"], group_numbers(table))


def group_numbers(table: pd.DataFrame) -> NDArray[np.int64] | None:
    """(N,) The same number for images of one ``group``, one of its own for each without; ``None``
    where the table has no such column."""
    if "group" not in table:
        return None
    numbers, names = pd.factorize(table["group"])
    alone = numbers < 0
    numbers[alone] = len(names) + np.arange(alone.sum())
    return numbers.astype(np.int64)
