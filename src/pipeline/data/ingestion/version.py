"""The version of ``data/``: DVC's hash of a folder, ``data.dvc``, and DVC itself as a command."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from pipeline.errors import Busy, DataRefused, PipelineError
from pipeline.workspace import Workspace

ACCEPT = "python -m pipeline data accept"
BRING_BACK = "dvc checkout data.dvc --force"


_BLOCK = 1 << 20


def copy_hashed(source: Path, target: Path | None) -> str:
    """The MD5 of ``source``, whose bytes go to the new file ``target`` on the way, if one is given.

    ``target`` belongs to whoever calls, also where this fails half-way.
    """
    md5 = hashlib.md5(usedforsecurity=False)
    with contextlib.ExitStack() as stack:
        reading = stack.enter_context(source.open("rb"))
        writing = stack.enter_context(target.open("xb")) if target else None
        while block := reading.read(_BLOCK):
            md5.update(block)
            if writing:
                writing.write(block)
    return md5.hexdigest()


def folder_hashes(folder: Path) -> dict[str, str]:
    """The MD5 of every file below ``folder``, by its relative POSIX path.

    Raises:
        DataRefused: one cannot be read.
    """
    with readable():
        return {name: copy_hashed(path, None) for name, path in files_below(folder)}


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Say of a file below ``data/`` that cannot be read what to do: one is enough to stop at."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        path = Path(error.filename)
        what = "a link to nothing" if path.is_symlink() else str(error.strerror).lower()
        raise DataRefused(
            f"{path}: {what}, so the version of data/ cannot be told; bring the file back by"
            f" '{BRING_BACK}' (before it 'dvc pull', where DVC's cache was emptied), or remove it"
        ) from error


def files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file below ``folder``, as DVC sees it, with its relative POSIX path before it."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        relative = Path(parent).relative_to(folder)
        for name in sorted(files):
            yield (relative / name).as_posix(), Path(parent, name)


def digest(hashes: Mapping[str, str]) -> str:
    """DVC's hash of a folder: the MD5 of the sorted listing of its files, with ``.dir`` behind."""
    entries = [{"md5": hashes[name], "relpath": name} for name in sorted(hashes)]
    listing = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"


def folder_md5(folder: Path) -> str:
    """What ``dvc add`` would write into the ``.dvc`` file of ``folder``."""
    return digest(folder_hashes(folder))


def recorded(workspace: Workspace) -> str | None:
    """The hash in ``data.dvc``; ``None`` where there is no such file.

    Raises:
        DataRefused: it names no version of ``data/``.
    """
    path = workspace.data_dvc
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        (output,) = yaml.safe_load(text)["outs"]
        if output["path"] != workspace.data.name or not output["md5"].endswith(".dir"):
            raise ValueError("it is about another path, or not about a folder")
        return str(output["md5"])
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError) as error:
        cause = " ".join(str(error).split())
        raise DataRefused(
            f"{path}: names no version of data/ ({cause}); settle a merge conflict there, or"
            " get the file back by 'git checkout data.dvc'"
        ) from error


def is_cached(workspace: Workspace, md5: str) -> bool:
    """Whether DVC's cache has the version ``md5``, every file of it.

    Raises:
        Busy: a DVC command is running.
        PipelineError: DVC cannot say.
    """
    if _in_usual_cache(workspace, md5):
        return True
    done = run_dvc(workspace, "status", "data.dvc", "--json")  # the cache may be elsewhere
    if done.returncode:
        raise PipelineError(f"'dvc status data.dvc' failed: {words_of(done)}")
    return recorded(workspace) == md5 and "not in cache" not in done.stdout


def _in_usual_cache(workspace: Workspace, md5: str) -> bool:
    """Whether ``.dvc/cache`` has it: a question that takes no start of DVC."""
    cache = workspace.root / ".dvc" / "cache" / "files" / "md5"
    found: dict[str, set[str]] = {}
    try:
        listing = json.loads((cache / md5[:2] / md5[2:]).read_text(encoding="utf-8"))
        for name in {entry["md5"] for entry in listing}:
            if name[:2] not in found:
                found[name[:2]] = {entry.name for entry in os.scandir(cache / name[:2])}
            if name[2:] not in found[name[:2]]:
                return False
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return False
    return True


def require_repository(workspace: Workspace) -> None:
    """See that DVC can work here.

    Raises:
        PipelineError: DVC is not installed, or the workspace is no DVC repository.
    """
    if importlib.util.find_spec("dvc") is None:
        raise PipelineError("DVC is not installed; run 'make setup', or 'pip install dvc'")
    if not (workspace.root / ".dvc").is_dir():
        raise PipelineError(f"{workspace.root}: not a DVC repository; run 'dvc init' there first")


def run_dvc(workspace: Workspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run DVC in the workspace; a failure is in the return code, its words in ``stderr``.

    Raises:
        Busy: another DVC command holds its locks.
        PipelineError: DVC is not installed, or the workspace is no DVC repository.
    """
    require_repository(workspace)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=workspace.root,
        env=os.environ | {"DVC_NO_ANALYTICS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    locked = "Unable to acquire lock", "it is being blocked by"
    if done.returncode and any(words in done.stderr for words in locked):
        raise Busy(
            f"{workspace.root}: another DVC command is running here; wait until it ends, then"
            " try again"
        )
    return done


def record(workspace: Workspace, expected: str | None = None, *, relink: bool = True) -> str:
    """Store ``data/`` in DVC's cache and its hash in ``data.dvc``; returns the hash.

    A ``data.dvc`` that already has the hash keeps its bytes. With ``relink`` DVC also makes each
    file what its ``cache.type`` says (a link to the cache, or a copy), which replaces any file
    that has a second hard link elsewhere by a copy.

    Raises:
        Busy: another DVC command is running.
        PipelineError: DVC failed, or its hash is not the ``expected`` one.
    """
    path = workspace.data_dvc
    before = path.read_bytes() if path.exists() else None
    before_md5 = None
    with contextlib.suppress(DataRefused):  # about to be written anew
        before_md5 = recorded(workspace)
    done = run_dvc(workspace, "add", *([] if relink else ["--no-relink"]), "data")
    md5 = recorded(workspace) if done.returncode == 0 else None
    # DVC ends with 0, also where it could not copy some of the files.
    if md5 is None or not is_cached(workspace, md5):
        if any(words in done.stderr for words in ("No space left", "quota exceeded")):
            raise PipelineError(
                f"{workspace.root}: the disk is full, so DVC could not store data/ in its cache;"
                " free some space, then run again"
            )
        raise PipelineError(f"'dvc add data' failed: {words_of(done)}")
    if expected is not None and md5 != expected:
        raise PipelineError(
            f"data.dvc: DVC's hash of data/ is {md5}, expected {expected}; does a line of"
            " .dvcignore leave out some of its files?"
        )
    if before is not None and before_md5 == md5 and path.read_bytes() != before:
        path.write_bytes(before)
    return md5


def words_of(done: subprocess.CompletedProcess[str]) -> str:
    """What DVC said went wrong, in one line."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    start = lines.index(errors[0]) if errors else max(len(lines) - 1, 0)
    said = " ".join(line.removeprefix("ERROR:").strip() for line in lines[start : start + 4])
    return said or f"exit code {done.returncode}"
