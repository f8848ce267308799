"""The registered model where this project is not."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from pipeline.evaluation.predictions import Predictions
from pipeline.release.champion import CHAMPION, version_called
from pipeline.release.register import register
from pipeline.tracking import open_store
from pipeline.vision.temperature import read_temperature, rescale

LOAD = """
import json, sys
sys.path.append(sys.argv[1])  # the libraries, without the .pth file that names this project
import mlflow
import pandas as pd
mlflow.set_tracking_uri(sys.argv[2])
model = mlflow.pyfunc.load_model("models:/shapes@champion")
import pipeline
images = [open(path, "rb").read() for path in sys.argv[3:]]
table = model.predict(pd.DataFrame({"image": images}))
assert table.equals(model.predict(images))
try:
    model.predict([images[0], b"no image"])
    error = None
except Exception as raised:
    error = str(raised)
print(json.dumps({
    "code": pipeline.__file__,
    "rows": table.to_dict("records"),
    "error": error,
    "inputs": str(model.metadata.signature.inputs),
    "outputs": model.metadata.signature.outputs.input_names(),
    "example": len(model.input_example) if model.input_example is not None else 0,
}))
"""


@pytest.fixture(scope="module")
def released(make_project):
    project = make_project()
    register(project.workspace, project.params)
    return project


def test_the_champion_predicts_in_a_process_that_lacks_this_project(released, tmp_path):
    workspace = released.workspace
    folder = workspace.evaluation("good")
    evaluated = Predictions.read(folder / "predictions.parquet").table[:3]
    names = ["p_bar", "p_disc"]
    temperature = read_temperature(folder)
    assert temperature != 1.0
    evaluated[names] = rescale(evaluated[names].to_numpy(float), temperature)
    paths = [str(workspace.data / name) for name in evaluated["file_name"]]
    store = open_store(workspace)
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-B",
            "-c",
            LOAD,
            sysconfig.get_path("purelib"),
            store.uri,
            *paths,
        ],
        cwd=tmp_path,
        env={"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["code"].startswith(str(workspace.mlflow / "artifacts"))
    assert said["outputs"] == ["label", "p_bar", "p_disc"]
    assert "binary" in said["inputs"]
    assert said["error"].startswith("row 1: no PNG")
    assert said["example"] == 1
    for row, expected in zip(said["rows"], evaluated.to_dict("records"), strict=True):
        assert row["label"] == ("bar", "disc")[expected["predicted"]]
        assert np.isclose(row["p_disc"], expected["p_disc"], atol=1e-5)
    assert list(tmp_path.iterdir()) == []


def test_a_model_says_what_it_learned_from_and_what_it_needs(released):
    store = open_store(released.workspace)
    version = version_called(store, "shapes", CHAMPION)
    address = store.client.get_model_version_download_uri("shapes", version.version)
    folder = Path(unquote(urlsplit(address).path))
    requirements = (folder / "requirements.txt").read_text().splitlines()
    assert all("==" in line and "+" not in line for line in requirements)
    assert not any(line.startswith(("timm", "torchvision", "prefect")) for line in requirements)
    trained_on = (folder / "artifacts" / "model" / "trained_on.txt").read_text().split()
    assert len(trained_on) == 80
    assert trained_on == sorted(trained_on)
    assert not list(folder.rglob("*.pkl"))
    assert not list(folder.rglob("__pycache__"))
