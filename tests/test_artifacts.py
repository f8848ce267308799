from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline import artifacts
from pipeline.errors import PipelineError


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def write_half(replacing, name=""):
    with replacing as temporary:
        (temporary / name).write_text("half")
        raise OSError(28, "disk full")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "metrics.json"
    artifacts.write_json(path, {"accuracy": 1})
    with pytest.raises(OSError, match="full"):
        write_half(artifacts.replacing(path))
    assert artifacts.read_json(path) == {"accuracy": 1}
    assert leftovers(tmp_path) == []


def test_a_failed_folder_leaves_the_old_folder_and_nothing_else(tmp_path):
    folder = tmp_path / "model"
    with artifacts.replacing_folder(folder) as temporary:
        (temporary / "weights").write_text("old")
    with pytest.raises(OSError, match="full"):
        write_half(artifacts.replacing_folder(folder), "weights")
    assert (folder / "weights").read_text() == "old"
    assert leftovers(tmp_path) == []


def test_a_replaced_folder_holds_nothing_of_the_old_one(tmp_path):
    folder = tmp_path / "model"
    for name in ("old", "new"):
        with artifacts.replacing_folder(folder) as temporary:
            (temporary / name).touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert leftovers(tmp_path) == []


MOMENTS = {
    "while writing": "os.kill(os.getpid(), 9)",
    "after the exchange": "artifacts.fsync_folder = lambda _: os.kill(os.getpid(), 9)",
    "after the renames": "artifacts._exchange = lambda *_: False;"
    "artifacts.fsync_folder = lambda _: os.kill(os.getpid(), 9)",
}


def killed(folder, moment):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom pipeline import artifacts\n"
        "with artifacts.replacing_folder(Path(sys.argv[1])) as temporary:\n"
        "    (temporary / 'weights').write_text('half')\n"
        f"    {MOMENTS[moment]}\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False)


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, moment):
    folder = tmp_path / "model"
    with artifacts.replacing_folder(folder) as temporary:
        (temporary / "weights").write_text("old")
    killed(folder, moment)
    assert (folder / "weights").read_text() == ("old" if moment == "while writing" else "half")
    assert leftovers(tmp_path)
    with artifacts.replacing_folder(folder) as temporary:
        (temporary / "weights").write_text("new")
    assert (folder / "weights").read_text() == "new"
    assert leftovers(tmp_path) == []


def test_what_another_process_is_writing_stays(tmp_path):
    folder = tmp_path / "model"
    with artifacts.replacing_folder(folder) as first:
        with artifacts.replacing_folder(folder) as second:
            (second / "weights").write_text("second")
        (first / "weights").write_text("first")
    assert (folder / "weights").read_text() == "first"
    assert leftovers(tmp_path) == []


def test_a_temporary_folder_is_gone_after_its_body(tmp_path):
    with artifacts.temporary_folder("scratch-", tmp_path) as folder:
        (folder / "weights").touch()
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_of_a_killed_process_is_removed_by_the_next(tmp_path):
    code = (
        "import os\nfrom pipeline import artifacts\n"
        "with artifacts.temporary_folder('scratch-') as folder:\n"
        "    (folder / 'weights').touch()\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    (killed,) = tmp_path.iterdir()
    with artifacts.temporary_folder("scratch-", tmp_path):
        assert not killed.exists()


def test_a_temporary_folder_that_another_uses_stays(tmp_path):
    with artifacts.temporary_folder("scratch-", tmp_path) as first:
        with artifacts.temporary_folder("scratch-", tmp_path):
            pass
        assert first.is_dir()


def test_a_temporary_folder_that_is_removed_before_it_is_held_is_made_again(tmp_path, monkeypatch):
    made, original = [], tempfile.mkdtemp

    def mkdtemp(**where):
        made.append(original(**where))
        if len(made) == 1:
            Path(made[0]).rmdir()  # as another process does that comes in between
        return made[-1]

    monkeypatch.setattr("pipeline.artifacts.tempfile.mkdtemp", mkdtemp)
    with artifacts.temporary_folder("scratch-", tmp_path) as folder:
        assert folder.is_dir()
    assert len(made) == 2


def test_outputs_can_be_read_by_the_rest_of_the_team(tmp_path):
    artifacts.write_text(tmp_path / "report.html", "x")
    assert (tmp_path / "report.html").stat().st_mode & 0o044 == 0o044


def test_equal_values_are_equal_bytes_and_nan_is_refused(tmp_path):
    artifacts.write_json(tmp_path / "a.json", {"x": 1, "y": 2})
    artifacts.write_json(tmp_path / "b.json", {"y": 2, "x": 1})
    assert artifacts.sha256_file(tmp_path / "a.json") == artifacts.sha256_file(tmp_path / "b.json")
    with pytest.raises(ValueError, match="JSON"):
        artifacts.write_json(tmp_path / "c.json", {"loss": float("nan")})
    assert not (tmp_path / "c.json").exists()


def test_a_missing_input_names_itself_and_the_command_that_makes_it(tmp_path):
    with pytest.raises(PipelineError, match=r"manifest\.parquet: missing; run 'dvc repro'"):
        artifacts.require(tmp_path / "manifest.parquet")
