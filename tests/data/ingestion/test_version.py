"""The hash of a folder is DVC's, and what DVC refuses is said in one line."""

from __future__ import annotations

import fcntl

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.ingestion import version
from pipeline.errors import Busy, DataRefused
from tests.ingesting import write_image


def test_our_hash_of_a_folder_is_dvcs(source_ingested):
    workspace = source_ingested.workspace
    for name in ("images/ünï/ß 1.png", "images/z/a.png", "images/z-a.png", "images/z.png"):
        write_image(workspace.data / name, seed=len(name))
    (workspace.data / "images" / "空.png").write_bytes(b"")
    expected = version.folder_md5(workspace.data)
    assert source_ingested.dvc("add", "data").returncode == 0
    assert yaml.safe_load(workspace.data_dvc.read_text())["outs"][0]["md5"] == expected


@given(st.dictionaries(st.text(min_size=1), st.text("0123456789abcdef", min_size=32), min_size=1))
def test_the_hash_does_not_depend_on_the_order_of_files(hashes):
    shuffled = dict(reversed(hashes.items()))
    assert version.digest(shuffled) == version.digest(hashes)


@pytest.mark.parametrize(
    "text",
    [
        "<<<<<<< HEAD\nouts:\n",
        "outs: []\n",
        "outs:\n- md5: abc\n  path: data\n",
        "outs:\n- md5: abc.dir\n  path: other\n",
        "- outs\n",
        "",
    ],
)
def test_a_data_dvc_that_names_no_version_is_refused(source_empty, text):
    source_empty.workspace.data_dvc.write_text(text)
    with pytest.raises(DataRefused, match="names no version of data/"):
        version.recorded(source_empty.workspace)


@pytest.mark.slow
def test_a_locked_dvc_is_busy(source_ingested):
    lock = source_ingested.workspace.root / ".dvc" / "tmp" / "lock"
    with lock.open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Busy, match="try again"):
            version.record(source_ingested.workspace)
