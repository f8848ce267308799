"""The page of a judgement: the most doubtful images with what speaks against their labels."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.decode import DecodeError, open_image
from pipeline.data.ingestion.relabel import REMOVE
from pipeline.data.pack import Packed
from pipeline.data.validation.verdict import visible
from pipeline.evaluation.wording import percent
from pipeline.labels.quality import LabelQuality, Pair
from pipeline.params import LabelsParams
from pipeline.vision.metrics import accuracy, balanced_accuracy

MAX_BYTES = 12_000_000
"""Of all pictures together, so that the page stays small enough to be sent around."""
SIDE = 240  # pixels
TWIN_SIDE = 96
MOST_TWINS = 4
MOST_PAIRS = 20
_MAX_PIXELS = 50_000_000
_WEB_MODES = {"L", "RGB"}


@dataclass(frozen=True, eq=False)
class Judgement:
    """What ``variant`` found out about the labels of ``packed``."""

    variant: str
    params: LabelsParams
    packed: Packed
    table: pd.DataFrame
    """The scan's row of each packed image."""
    quality: LabelQuality


@dataclass
class Pictures:
    """Thumbnails as data URIs, until they are too many."""

    data: Path
    packed: Packed
    room: int
    """Bytes that are left."""

    def draw(self, row: int, side: int) -> str:
        """Empty where there is no room left."""
        image = self._original(row) or self._stored(row)
        image.thumbnail((side, side), Image.Resampling.BOX)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=88)
        uri = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        self.room -= len(uri)
        return uri if self.room >= 0 else ""

    def _original(self, row: int) -> Image.Image | None:
        """The image as it is in ``data/``, where that is on this machine: a person sees more."""
        path = self.data / str(self.packed.index["file_name"].iloc[row])
        try:
            image = open_image(path.read_bytes(), max_pixels=_MAX_PIXELS)
            return image if image.mode in _WEB_MODES else image.convert("RGB")
        except (DecodeError, OSError, ValueError):
            return None

    def _stored(self, row: int) -> Image.Image:
        pixels = np.asarray(self.packed.images[row])
        return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def render(judgement: Judgement, data: Path, corrections: Path, command: str) -> str:
    """The page as HTML without any reference outside itself.

    Args:
        data: the folder of the original images.
        corrections: the table to be filled in, as a person would name it.
        command: what applies it.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "percent": percent}
    quality = judgement.quality
    shown = quality.order[: judgement.params.shown]
    pictures = Pictures(data, judgement.packed, room=MAX_BYTES)
    neighbours = _other_labels(judgement)
    pairs = quality.pairs()
    return environment.get_template("page.html").render(
        variant=judgement.variant,
        settings=judgement.params,
        images=f"{len(quality.sample):,}",
        flagged=int(quality.issue.sum()),
        figures=_figures(quality),
        pairs=[_pair(judgement, pair, pairs[0].images) for pair in pairs[:MOST_PAIRS]],
        more_pairs=len(pairs[MOST_PAIRS:]),
        cards=[_card(judgement, int(row), pictures, neighbours) for row in shown],
        more=int(quality.issue.sum()) - len(shown),
        corrections=corrections,
        command=command,
        remove=REMOVE,
    )


def _figures(quality: LabelQuality) -> list[tuple[str, str]]:
    drawn = quality.sample.drawn()
    return [
        (f"{len(quality.sample):,}", "labels judged"),
        (f"{int(quality.issue.sum()):,}", "flagged as doubtful"),
        (percent(quality.noise), "of the labels estimated to be wrong"),
        (percent(float(accuracy(drawn))), "of the labels the networks agree with"),
        (percent(float(balanced_accuracy(drawn))), "the same, mean of the classes"),
    ]


def _pair(judgement: Judgement, pair: Pair, most: int) -> dict[str, Any]:
    classes = judgement.packed.classes
    return {
        "given": classes[pair.given],
        "actual": classes[pair.actual],
        "images": f"{pair.images:,}",
        "share": percent(pair.share),
        "flagged": f"{pair.flagged:,}",
        "width": round(100 * pair.images / most),
    }


def _card(
    judgement: Judgement, row: int, pictures: Pictures, neighbours: dict[int, NDArray[np.int64]]
) -> dict[str, Any]:
    quality, packed = judgement.quality, judgement.packed
    target = int(quality.sample.targets[row])
    cluster = int(judgement.table["near_cluster"].iloc[row])
    twins = [i for i in neighbours.get(cluster, ()) if quality.sample.targets[i] != target]
    return {
        "file_name": packed.index["file_name"].iloc[row],
        "issue": bool(quality.issue[row]),
        "weight": float(packed.index["weight"].iloc[row]),
        "given": packed.classes[target],
        "suggested": packed.classes[quality.suggested[row]],
        "p_given": float(quality.p_given[row]),
        "p_suggested": float(quality.p_suggested[row]),
        "picture": pictures.draw(row, SIDE),
        "twins": [
            {
                "file_name": packed.index["file_name"].iloc[i],
                "label": packed.index["label"].iloc[i],
                "picture": pictures.draw(int(i), TWIN_SIDE),
            }
            for i in twins[:MOST_TWINS]
        ],
        "more_twins": len(twins[MOST_TWINS:]),
    }


def _other_labels(judgement: Judgement) -> dict[int, NDArray[np.int64]]:
    """The rows of each cluster of near duplicates whose labels differ."""
    clusters = judgement.table["near_cluster"].astype(np.int64)
    targets = pd.Series(judgement.quality.sample.targets)
    mixed = targets.groupby(clusters).transform("nunique") > 1
    found = clusters[mixed & (clusters >= 0)]
    grouped = found.groupby(found).groups
    return {int(str(cluster)): rows.to_numpy(np.int64) for cluster, rows in grouped.items()}
