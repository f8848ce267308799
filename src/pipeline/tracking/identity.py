"""What a run consumed, as tags: with them any run can be brought back."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.artifacts import read_json, sha256_file
from pipeline.workspace import Workspace

GIT_COMMIT = "mlflow.source.git.commit"
"""The tag that MLflow's page shows as the version of the code."""


def consumed(workspace: Workspace) -> dict[str, str]:
    """Tags for the code, the data and the split as they are now; what is unknown is left out.

    ``git_dirty`` says whether the working tree differs from the commit. ``dvc.lock`` does not
    count: every run changes it.
    """
    tags: dict[str, str] = {}
    if commit := _git(workspace, "rev-parse", "HEAD"):
        changes = _git(workspace, "status", "--porcelain", "--", ".", ":(exclude)dvc.lock")
        tags |= {
            GIT_COMMIT: commit,
            "git_commit": commit,
            "git_dirty": "unknown" if changes is None else str(bool(changes)).lower(),
        }
    if md5 := data_md5(workspace):
        tags["data_md5"] = md5
    if workspace.split.is_file():
        tags["split_sha256"] = sha256_file(workspace.split)
    return tags


def data_md5(workspace: Workspace) -> str | None:
    """The hash of ``data/`` that ``data.dvc`` holds; None where there is none."""
    try:
        return str(yaml.safe_load(workspace.data_dvc.read_text("utf-8"))["outs"][0]["md5"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError):
        return None


def packed_card(workspace: Workspace, digest: str) -> dict[str, Any] | None:
    """What ``packed.json`` says of the images with ``digest``; None where others are packed."""
    path = workspace.packed / "packed.json"
    card: dict[str, Any] | None = read_json(path) if path.is_file() else None
    return card if card is not None and card.get("digest") == digest else None


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as MLflow's parameters: ``{"policy": {"flip": 1}}`` is ``policy.flip: 1``."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def params_sha256(flat: Mapping[str, str]) -> str:
    """The hash of flattened settings, whatever their order."""
    return hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()


def _git(workspace: Workspace, *arguments: str) -> str | None:
    """What git prints; None without git, or outside a repository."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=workspace.root,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
