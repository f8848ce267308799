from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
HEAVY = {"torch", "torchvision", "timm", "pandas", "mlflow", "prefect", "dvc", "great_expectations"}

INTERRUPTED = """
import os, signal, sys
import pipeline.data.split
from pipeline.__main__ import main
pipeline.data.split.split = lambda *_: os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["pipeline", "split"]
main()
"""


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(PROJECT / "src")} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def pipeline(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "pipeline", *arguments, cwd=cwd, **environment)


def test_help_lists_the_commands_and_imports_nothing_heavy(tmp_path):
    code = (
        "import sys, pipeline.__main__ as main\n"
        "try: main.app(['--help'])\n"
        "except SystemExit: pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().endswith("[]"), done.stderr
    for command in ("ingest", "scan", "train", "register", "rollback", "predict"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr: 0.003", "lrr: 0.003", "did you mean 'lr'?"),
        (
            "model: torchvision:resnet18",
            "model: torchvision:resnt18",
            "did you mean 'torchvision:resnet18'?",
        ),
        ("model: small_cnn", "model: smal_cnn", "did you mean 'small_cnn'?"),
        ("flip: {horizontal", "flipp: {horizontal", "did you mean 'flip'?"),
        ("formats: [PNG, JPEG", "formats: [PNG, jpeg", "did you mean 'JPEG'?"),
        ("modes: [L, RGB]", "modes: [L, RBG]", "did you mean 'RGB'?"),
    ],
)
def test_a_wrong_setting_ends_with_code_2_and_one_line(tmp_path, params_text, old, new, message):
    assert old in params_text
    (tmp_path / "params.yaml").write_text(params_text.replace(old, new, 1))
    done = pipeline("params", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_outside_a_project_the_command_says_where_to_run_it(tmp_path):
    done = pipeline("scan", cwd=tmp_path)
    assert done.returncode == 2
    assert "no params.yaml here" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stage_without_its_inputs_says_what_makes_them(tmp_path, params_text):
    (tmp_path / "params.yaml").write_text(params_text)
    done = pipeline("split", cwd=tmp_path)
    assert done.returncode == 1
    assert "accepted.parquet: missing; run 'dvc repro'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failure_leaves_its_message_for_the_flow(tmp_path):
    failure = tmp_path / "failure.json"
    pipeline("scan", cwd=tmp_path, PIPELINE_FAILURE_FILE=str(failure))
    left = json.loads(failure.read_text())
    assert left["exit_code"] == 2
    assert "no params.yaml here" in left["message"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("ENOSPC", "{root}/.pipeline: the disk is full"),
        ("EACCES", "{root}: permission denied; give this user the right"),
        ("EROFS", "{root}: its file system is read-only"),
    ],
)
def test_a_disk_that_cannot_be_written_is_a_message_not_a_traceback(
    tmp_path, params_text, number, message
):
    (tmp_path / "params.yaml").write_text(params_text)
    # A sitecustomize stands in for such a disk: a failure is all that is simulated.
    (tmp_path / "sitecustomize.py").write_text(
        "import errno, pathlib\n"
        f"def refused(self, *a, **k): raise OSError(errno.{number}, 'refused', str(self))\n"
        "pathlib.Path.mkdir = refused\n"
    )
    path = f"{tmp_path}{os.pathsep}{PROJECT / 'src'}"
    done = pipeline("rollback", cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 1
    assert message.format(root=tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupted_command_says_that_it_can_be_started_again(tmp_path, params_text):
    (tmp_path / "params.yaml").write_text(params_text)
    done = python("-c", INTERRUPTED, cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGINT
    assert "interrupted; started again, it goes on" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
