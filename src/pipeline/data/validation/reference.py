"""``reference.json``: what the data looked like when somebody last said that it was right.

A small file beside ``params.yaml``, tracked by git, written by ``python -m pipeline data
accept-reference`` alone. Later data is compared with it as a whole, and so are the images that it
did not have, because a bad batch of a hundred hardly moves a thousand good ones.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from pipeline.artifacts import write_text
from pipeline.data.manifest import GIVEN, MEASURED
from pipeline.data.validation.distribution import (
    Numbers,
    Spread,
    Words,
    is_number,
    margin,
    spread_of,
)
from pipeline.errors import ConfigurationError

_SAMPLE = 4096
_IDENTITIES = {"file_name", "sha256", "status", "error", "pixel_hash", "phash"}
_IDENTITIES |= {"duplicate_cluster", "near_cluster"}
"""Columns of the manifest that tell images apart, or say nothing of accepted ones."""

Kind = Literal["number", "text"]


class Reference(BaseModel):
    """The content of ``reference.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    images: NonNegativeInt
    columns: Mapping[str, Kind]
    """The columns that the data has values in, but those that the scan measures."""
    numbers: Mapping[str, Numbers]
    words: Mapping[str, Words]
    classes: tuple[str, ...] = ()
    """All of them; `words` leaves out the rare."""
    sample: str
    """The beginnings (32 bits) of the smallest SHA-256 of its files, sorted, in base64. Whether it
    knew an image below the largest of them is in the list: a fair sample of any later data."""

    @classmethod
    def of(cls, accepted: pd.DataFrame) -> Reference:
        names = [str(name) for name in accepted.columns if name not in _IDENTITIES]
        spreads = {name: spread_of(accepted[name]) for name in sorted(names)}
        smallest = np.unique(_beginnings(accepted["sha256"]))[:_SAMPLE]
        return cls(
            format=1,
            images=len(accepted),
            columns=_kinds(accepted),
            numbers={k: v for k, v in spreads.items() if isinstance(v, Numbers)},
            words={k: v for k, v in spreads.items() if isinstance(v, Words)},
            classes=tuple(sorted(set(accepted["label"].dropna()))),
            sample=base64.b64encode(smallest.astype("<u4").tobytes()).decode(),
        )

    @property
    def spreads(self) -> dict[str, Spread]:
        return dict(sorted([*self.numbers.items(), *self.words.items()]))

    def knows_a_class_of(self, classes: Sequence[str]) -> bool:
        """Whether it is about data like this at all, and not about another data set."""
        known = set(self.classes)
        if not known and "label" in self.words:  # written before it listed them
            known = set(self.words["label"].shares)
        return not known.isdisjoint(classes)

    def newcomers(self, accepted: pd.DataFrame) -> NDArray[np.bool_]:
        """Marks a fair sample of the images that the reference did not have: all of them, as long
        as it has at most `_SAMPLE`. None where it had no image of these: all are new then."""
        known = np.frombuffer(base64.b64decode(self.sample), "<u4")
        beginnings = _beginnings(accepted["sha256"])
        old = np.isin(beginnings, known)
        told = beginnings <= known.max() if known.size >= _SAMPLE else np.ones_like(old)
        return told & ~old & old.any()


@dataclass(frozen=True)
class Comparison:
    """One column of the data beside the same column of the reference."""

    name: str
    column: str
    images: int
    reference: Spread
    found: Spread | None
    distance: float
    margin: float

    @property
    def drift(self) -> float:
        """A lower bound of how far the two are apart, wrong once in 1 / `ALARM_RATE` runs."""
        return max(0.0, self.distance - self.margin)


def read_reference(path: Path) -> Reference | None:
    """The reference in ``path``; ``None`` where there is no file, or it holds ``{}``.

    Raises:
        ConfigurationError: the file is not one that `write_reference` wrote.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Reference.model_validate(content) if content else None
    except (ValueError, ValidationError) as error:
        cause = str(error).splitlines()
        raise ConfigurationError(
            f"{path}: not a reference ({'; '.join(line.strip() for line in cause[:3])}); bring it"
            " back from git, or write it anew with 'python -m pipeline data accept-reference'"
        ) from error


def write_reference(path: Path, reference: Reference | None) -> None:
    """Write ``reference``, or ``{}`` for none, a line for each column, so that git shows them."""
    sections = {} if reference is None else reference.model_dump()
    lines = [f"  {json.dumps(key)}: {_block(value)}" for key, value in sections.items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n" if lines else "{}\n")


def _block(value: Any) -> str:
    if not isinstance(value, Mapping):
        return json.dumps(value)
    rows = [
        f"    {json.dumps(key)}: {json.dumps(value[key], ensure_ascii=False)}"
        for key in sorted(value)
    ]
    return "{\n" + ",\n".join(rows) + "\n  }" if rows else "{}"


def compare(reference: Reference, accepted: pd.DataFrame, group: str | None) -> list[Comparison]:
    """Every column that both have: of all images, and of those the reference did not have.

    ``group``, the name of the column that groups images, is not compared: new groups are new.
    """
    new = reference.newcomers(accepted)
    batches = {"": accepted}
    if new.any():
        batches["new images: "] = accepted[new]
    pairs = [
        (prefix, name, spread, batch[name])
        for name, spread in reference.spreads.items()
        if name in accepted.columns
        and name not in {"group", group}
        and is_number(accepted[name]) == isinstance(spread, Numbers)
        and accepted[name].notna().any()
        for prefix, batch in batches.items()
    ]
    return [
        Comparison(
            name=f"{prefix}{name}",
            column=name,
            images=len(values),
            reference=spread,
            found=spread_of(values),
            distance=spread.distance(values),
            margin=margin(spread.claims(values), len(pairs), len(values), reference.images),
        )
        for prefix, name, spread, values in pairs
    ]


def to_table(
    reference: Reference, accepted: pd.DataFrame, comparisons: Sequence[Comparison]
) -> pd.DataFrame:
    """What the reference checks judge: a row for each column of the data or of a comparison.

    Columns: ``column`` (its name), ``presence`` (same, new or lost), ``type_change`` (text or
    null), ``drift`` and, for the label alone, ``label_drift`` (shares of the images, or null).
    """
    before, now = reference.columns, _kinds(accepted)
    rows: dict[str, dict[str, Any]] = {}
    for name in sorted({*before, *now}):
        was, is_ = before.get(name), now.get(name)
        rows[name] = {
            "presence": "new" if was is None else "lost" if is_ is None else "same",
            "type_change": f"{was} → {is_}" if was and is_ and was != is_ else None,
        }
    for comparison in comparisons:
        column = "label_drift" if comparison.column == "label" else "drift"
        row = rows.setdefault(comparison.name, {"presence": "same", "type_change": None})
        row[column] = comparison.drift
    columns = ["presence", "type_change", "drift", "label_drift"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table[["drift", "label_drift"]] = table[["drift", "label_drift"]].astype(np.float64)
    return table.rename_axis("column").reset_index()


def _kinds(accepted: pd.DataFrame) -> dict[str, Kind]:
    """What the data says of its images, and whether in numbers or in text, where it says it."""
    measured = {name for name, _ in MEASURED} | {GIVEN[0][0]}
    return {
        str(name): "number" if is_number(accepted[name]) else "text"
        for name in sorted(accepted.columns)
        if name not in measured and accepted[name].notna().any()
    }


def _beginnings(hashes: pd.Series) -> NDArray[np.uint32]:
    """The first 32 bits of each SHA-256."""
    joined = "".join(hashes.str[:8].fillna("f" * 8))
    return np.frombuffer(bytes.fromhex(joined), ">u4").astype(np.uint32)
