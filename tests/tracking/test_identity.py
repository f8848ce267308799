"""What a run consumed."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tracking.identity import GIT_COMMIT, consumed, flatten, params_sha256
from pipeline.workspace import Workspace


@pytest.fixture
def checkout(tmp_path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        command = ["git", *identity, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    (tmp_path / "params.yaml").write_text("a: 1\n")
    (tmp_path / "dvc.lock").write_text("old\n")
    (tmp_path / "data.dvc").write_text("outs:\n- md5: 0123abc.dir\n  path: data\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "first")
    return Workspace(tmp_path), git


def test_a_clean_checkout_is_clean(checkout):
    workspace, git = checkout
    tags = consumed(workspace)
    assert tags["git_commit"] == tags[GIT_COMMIT] == git("rev-parse", "HEAD")
    assert tags["git_dirty"] == "false"
    assert tags["data_md5"] == "0123abc.dir"


def test_a_new_dvc_lock_does_not_make_it_dirty_but_other_changes_do(checkout):
    workspace, _ = checkout
    (workspace.root / "dvc.lock").write_text("new\n")
    assert consumed(workspace)["git_dirty"] == "false"
    workspace.params.write_text("a: 2\n")
    assert consumed(workspace)["git_dirty"] == "true"


def test_code_that_git_does_not_know_yet_makes_it_dirty(checkout):
    workspace, _ = checkout
    (workspace.root / "model.py").write_text("x = 1\n")
    assert consumed(workspace)["git_dirty"] == "true"


def test_outside_a_repository_the_run_goes_without_its_commit(tmp_path):
    assert consumed(Workspace(tmp_path)) == {}


def test_nested_settings_become_dotted_names():
    assert flatten({"lr": 0.1, "policy": {"flip": {"horizontal": 0.5}}, "architecture": {}}) == {
        "lr": "0.1",
        "policy.flip.horizontal": "0.5",
        "architecture": "{}",
    }


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_the_hash_of_settings_does_not_depend_on_their_order(settings):
    backwards = dict(reversed(settings.items()))
    assert params_sha256(settings) == params_sha256(backwards)
    assert params_sha256({**settings, "one more": "x"}) != params_sha256(settings)
