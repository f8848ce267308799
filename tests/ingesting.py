"""A small project with a source of images, for tests of ingest and restore."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from pipeline.data.ingestion.canonical import Dataset, build_dataset, read_batch
from pipeline.data.sources import Request, read_source
from pipeline.params import (
    IngestParams,
    LabelRule,
    LimitParams,
    TableParams,
    WeightRule,
    load,
)
from pipeline.workspace import Workspace

PROJECT = Path(__file__).resolve().parent.parent


def write_image(path: Path, seed: int) -> None:
    """A tiny PNG whose pixels, and so whose bytes, follow from ``seed``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


def write_table(path: Path, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


@dataclass(frozen=True)
class SourceProject:
    """A git and DVC repository with a ``params.yaml``, beside a source of class folders."""

    workspace: Workspace
    source: Path
    """``cat/`` and ``dog/`` with 6 images each, of different bytes."""

    @property
    def params(self) -> IngestParams:
        return load(self.workspace.params).ingest

    def configure(self, **ingest: object) -> IngestParams:
        """Set keys of the section ``ingest`` in ``params.yaml``."""
        path = self.workspace.params
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
        params["ingest"] |= ingest
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
        return self.params

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run Python with ``command`` in the project."""
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.workspace.root,
            env=os.environ | {"PYTHONPATH": str(PROJECT / "src")},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def pipeline(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "pipeline", *arguments)

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "dvc", *arguments)

    def leftovers(self) -> list[str]:
        """What an ingest must not leave behind."""
        root = self.workspace.root
        found = [*root.glob(".data.*"), *root.glob("data.unfinished*")]
        notes = [*root.glob(".pipeline/ingest.json"), *root.glob(".pipeline/ingest/scratch")]
        return [path.name for path in [*found, *notes]]


def copied(project: SourceProject, to: Path) -> SourceProject:
    shutil.copytree(project.workspace.root.parent, to, symlinks=True)
    copy = SourceProject(Workspace(to / "project"), to / "source")
    copy.configure(source=str(copy.source))
    return copy


def a_changed_source(project: SourceProject) -> None:
    """One image more, one less, one with other bytes, one with another label."""
    source = project.source
    write_image(source / "cat" / "new.png", seed=100)
    (source / "cat" / "01.png").unlink()
    write_image(source / "cat" / "03.png", seed=101)
    shutil.move(source / "cat" / "05.png", source / "dog" / "05.png")


def a_batch(project: SourceProject) -> Path:
    """Beside the source: two images that are new, one of them under a name that is taken, and one
    that ``data/`` has already."""
    batch = project.source.parent / "batch"
    write_image(batch / "cat" / "01.png", seed=200)
    write_image(batch / "dog" / "new.png", seed=201)
    write_image(batch / "dog" / "copy.png", seed=0)
    return batch


def a_table_of_corrections(project: SourceProject) -> Path:
    """Beside the source: one label corrected, one image taken out."""
    table = project.source.parent / "corrections.csv"
    write_table(table, "file_name,label", "images/cat/01.png,dog", "images/dog/00.png,(remove)")
    return table


BASE = Path("/nonexistent/project")

LIMITS = LimitParams(files=10_000, bytes=100_000_000, file_bytes=20_000_000, ratio=200.0)

CELLS = TableParams(
    file="labels.csv", separator="whitespace", columns=("file_name", "probability", "cell_type")
)
DEFECT = LabelRule(column="probability", at_least=0.5, classes=("functional", "defective"))
SURE = WeightRule(column="probability", points=((0.0, 1.0), (0.5, 0.0), (1.0, 1.0)))


def asked(
    address: str | Path,
    table: TableParams | None = None,
    *,
    configured: bool = True,
    work: Path = BASE,
    limits: LimitParams = LIMITS,
) -> Request:
    """A question for `address`; what is unpacked or downloaded goes below ``work``."""
    return Request(
        str(address),
        table,
        configured,
        base=BASE,
        shown=str(address),
        scratch=work / "scratch",
        cache=work / "cache",
        limits=limits,
    )


def dataset(
    address: str | Path,
    table: TableParams | None = None,
    label: LabelRule | None = None,
    weight: WeightRule | None = None,
    *,
    configured: bool = True,
    work: Path = BASE,
) -> Dataset:
    params = IngestParams(
        source=str(address), mode="replace", table=table, label=label, weight=weight, limits=LIMITS
    )
    listing = read_source(asked(address, table, configured=configured, work=work))
    return build_dataset(read_batch(listing, params, configured=configured))


def rows(data: Dataset) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.metadata.decode(), newline="")))


def classes(data: Dataset) -> list[str]:
    return json.loads(data.classes)["classes"]


def images(folder: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        write_image(folder / name, seed=i)
    return folder


def cells(folder: Path) -> Path:
    """Four images and a table like that of the solar cells."""
    images(folder, *(f"images/{i}.png" for i in range(4)))
    write_table(
        folder / "labels.csv",
        "images/3.png   1.0                 mono",
        "images/0.png   0.0                 mono",
        "images/1.png   0.3333333333333333  poly",
        "images/2.png   0.6666666666666666  poly",
    )
    return folder
