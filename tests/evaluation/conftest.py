"""A workspace with packed data and two models, as the stages before evaluate leave it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.data.pack import Packed, pack
from pipeline.evaluation.evaluate import evaluate
from pipeline.params import Params, load
from pipeline.vision.card import save_model
from pipeline.workspace import Workspace
from tests.evaluation.synthetic import QUICK, make_history
from tests.packing import augment_params, make_images, make_workspace
from tests.vision.trained import make_model


@dataclass(frozen=True)
class Project:
    workspace: Workspace
    params: Params
    packed: Packed


def make_project(root: Path, params_text: str) -> Project:
    """64 noise images of 32 px, a network ``first`` and one ``second`` that have seen none."""
    workspace = make_workspace(root, make_images(64, side=40))
    split = pd.read_parquet(workspace.split)
    kinds = ["train"] * 4 + ["val"] * 2 + ["test"] * 2  # labels alternate: both are in each
    split.assign(split=[kinds[i % 8] for i in range(len(split))]).to_parquet(workspace.split)
    pack(workspace, augment_params(image_size=32))
    packed = Packed.load(workspace.packed)
    settings = yaml.safe_load(params_text)
    settings["variants"] = {name: {"model": "small_cnn"} for name in ("first", "second")}
    settings["evaluate"] |= QUICK | {"resamples": 200, "gallery": 5}
    # Those of many figures are drawn in the tests of the report.
    settings["evaluate"]["sections"] = [
        name
        for name in settings["evaluate"]["sections"]
        if name not in {"invariance", "explanations"}
    ]
    settings["train"]["device"] = "cpu"
    workspace.params.write_text(yaml.safe_dump(settings), encoding="utf-8")
    for seed, variant in enumerate(settings["variants"]):
        classifier, card = make_model(image_size=32, stored_size=32)
        card = replace(
            card, variant=variant, seed=seed, classes=packed.classes, data_digest=packed.digest
        )
        for tensor in list(classifier.parameters())[-1:]:
            tensor.data += 0.1 * seed  # two models, not one
        save_model(workspace.model(variant), classifier, card, make_history().to_dict("records"))
    return Project(workspace, load(workspace.params), packed)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose variants are not evaluated; not to be changed."""
    text = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")
    return make_project(tmp_path_factory.mktemp("trained"), text)


@pytest.fixture(scope="session")
def evaluated(trained: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose variants are evaluated; not to be changed."""
    project = copy_of(trained, tmp_path_factory.mktemp("evaluated"))
    for variant in project.params.variants:
        evaluate(project.workspace, project.params, variant)
    return project


@pytest.fixture
def project(trained: Project, tmp_path: Path) -> Project:
    """A project of one's own, not evaluated."""
    return copy_of(trained, tmp_path)


def copy_of(project: Project, root: Path) -> Project:
    shutil.copytree(project.workspace.root, root, dirs_exist_ok=True)
    return replace(project, workspace=Workspace(root))
