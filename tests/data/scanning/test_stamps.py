"""What a second scan goes by: the files' stamps, and the key of the code and settings."""

from __future__ import annotations

import os
from pathlib import Path

import grimp
import numpy as np
import pyarrow as pa
import pytest

from pipeline.data.scanning import scan_cache
from pipeline.data.scanning.scan_cache import CHECKERS, checker_key
from pipeline.data.scanning.stamps import find_files
from pipeline.params import ScanParams

PARAMS = ScanParams(max_pixels=10**6, max_bytes=10**6, timeout=30, memory=1000)


def test_every_module_that_measures_is_part_of_the_key():
    graph = grimp.build_graph("pipeline", cache_dir=None)
    ours = {module.__name__ for module in CHECKERS}
    needed = {"pipeline.data.scanning.measure", "pipeline.data.scanning.duplicates"}
    for module in set(needed):
        needed |= graph.find_upstream_modules(module)
    assert {name for name in needed if name.startswith("pipeline.data.")} <= ours


@pytest.mark.parametrize("name", ["max_pixels", "max_bytes", "timeout", "memory"])
def test_a_changed_setting_changes_the_key(name):
    other = PARAMS.model_copy(update={name: getattr(PARAMS, name) + 1})
    assert checker_key(other) != checker_key(PARAMS) == checker_key(PARAMS)


def test_changed_code_changes_the_key(monkeypatch, tmp_path):
    before = checker_key(PARAMS)
    copy = tmp_path / "decode.py"
    copy.write_bytes(Path(str(CHECKERS[0].__file__)).read_bytes() + b"# changed")
    monkeypatch.setattr(scan_cache.CHECKERS[0], "__file__", str(copy))
    assert checker_key(PARAMS) != before


def test_files_are_found_with_their_stamps(tmp_path):
    images = tmp_path / "images"
    for name in ("a.bmp", "sub/b.bmp", ".hidden.bmp", "sub/.cache/c.bmp"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(b"bytes")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "d.bmp").write_bytes(b"bytes")
    (images / "linked").symlink_to(tmp_path / "elsewhere")
    (images / "nowhere.bmp").symlink_to(tmp_path / "gone.bmp")
    os.mkfifo(images / "pipe.bmp")
    listed = ["images/a.bmp", "images/linked/d.bmp", "images/missing.bmp", "images/pipe.bmp"]
    found = find_files(tmp_path, pa.array([*listed, "\0"]))
    status = (images / "a.bmp").stat()
    assert found.stamps[0].tolist() == [
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
    ]
    assert (found.stamps[:, -1] > 0).tolist() == [True, True, False, False, False]
    assert found.unlisted == [
        "images/linked",
        "images/nowhere.bmp",
        "images/sub/.cache/c.bmp",
        "images/sub/b.bmp",
    ]


def test_no_folder_has_no_files(tmp_path):
    found = find_files(tmp_path, pa.array(["images/a.png"]))
    assert found.unlisted == []
    assert np.array_equal(found.stamps, np.zeros((1, 4)))
