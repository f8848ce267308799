"""What may be taken from an archive or a remote folder, decided before anything is written.

It is refused as a whole where a member would land outside, where two would be one file, where the
limits are passed, or where its own figures contradict each other: whoever made it so cannot be
trusted with the rest. A member that is merely no plain file, or whose name no table can carry, is
left out with its reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from pipeline.data.sources.names import LONGEST_NAME, is_text, twin_key
from pipeline.data.sources.source import IMAGE_SUFFIXES, TABLE_SUFFIXES, is_system
from pipeline.errors import DataRefused
from pipeline.params import LimitParams, TableParams

_ARCHIVES = "7z br bz2 cab cpio gz iso jar lz4 rar tar tbz2 tgz txz xz zip zst"
_ARCHIVE_SUFFIXES = frozenset(f".{suffix}" for suffix in _ARCHIVES.split())

_LONGEST_PATH = 2_000
_DEEPEST = 32
_SMALL = 10_000_000
"""Bytes below which a high ratio is no sign of a bomb: a table of equal rows packs well."""

_IDX = re.compile(r"(?i)(images|labels)[-.]idx[1-4]-ubyte(\.gz)?$")


@dataclass(frozen=True)
class Member:
    """One entry of an archive or a remote folder, as it describes itself."""

    name: str
    size: int
    kind: Literal["file", "folder", "link", "special"] = "file"
    target: str = ""
    """Where a link leads."""


@dataclass
class Plan:
    """What will be written: paths relative to a new, empty folder."""

    files: dict[int, str] = field(default_factory=dict)
    """A member's position to its path."""
    folders: set[str] = field(default_factory=set)
    members: int = 0
    """How many there are, those of the archives before it included."""
    bytes: int = 0
    """The sum of the sizes that the files claim to have, those of the archives before included."""
    skipped: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


def useful(table: TableParams | None) -> Callable[[str], bool]:
    """Whether a file of a source is looked at at all, by its path."""
    own = {"classes.json"} | ({table.file} if table else set())

    def wanted(path: str) -> bool:
        pure = PurePosixPath(path)
        suffix = pure.suffix.lower()
        known = suffix in IMAGE_SUFFIXES or suffix in TABLE_SUFFIXES
        return known or pure.name in own or path in own or _IDX.search(path) is not None

    return wanted


def plan(
    members: Iterable[Member],
    limits: LimitParams,
    shown: str,
    *,
    wanted: Callable[[str], bool],
    packed: int | None = None,
    before: Plan | None = None,
) -> Plan:
    """Decide about each of ``members``, of an archive of ``packed`` bytes called ``shown``.

    Where a source has several archives, ``before`` is the plan of the one before this.

    Raises:
        DataRefused: it is refused as a whole; see the module.
    """
    planned = Plan(members=before.members, bytes=before.bytes) if before else Plan()
    taken: dict[str, str] = {}
    for position, member in enumerate(members):
        planned.members += 1
        if planned.members > limits.files:
            raise DataRefused(
                f"{shown}: more than {limits.files:,} members, the most that ingest.limits.files in"
                " params.yaml allows; raise it if the source is to be trusted"
            )
        _check_inside(member, shown)
        path = str(PurePosixPath(member.name))
        reason = _unusable(member, path)
        if reason:
            planned.refused[reason] += 1
        elif member.kind == "folder":
            if path != ".":
                planned.folders.add(path)
        elif any(is_system(part) for part in path.split("/")):
            planned.skipped["hidden and system files"] += 1
        elif not wanted(path):
            _count_unwanted(planned, path)
        else:
            _claim(taken, path, shown)
            _add_size(planned, member, limits, shown, packed)
            planned.files[position] = path
    _check_folders(planned, taken, shown)
    planned.folders = {path for path in planned.folders if not _is_system_path(path)}
    return planned


def write_member(path: Path, size: int, read: Callable[[int], bytes], name: str) -> None:
    """Write the member ``name`` to the new file ``path``, exactly ``size`` bytes of it.

    Raises:
        DataRefused: ``read`` gives more bytes, or fewer.
    """
    left = size
    with path.open("xb") as file:
        while block := read(min(left + 1, 1 << 20)):
            left -= len(block)
            if left < 0:
                break
            file.write(block)
    if left:
        raise DataRefused(
            f"{name}: {'more' if left < 0 else 'fewer'} bytes than the {size:,} it claims to have;"
            " the archive is damaged or a trap, get it anew"
        )


def make_folders(planned: Plan, target: Path) -> None:
    """Make all folders that ``planned`` needs below ``target``."""
    parents = {str(PurePosixPath(path).parent) for path in planned.files.values()}
    for folder in sorted(planned.folders | parents):
        (target / folder).mkdir(parents=True, exist_ok=True)


def _check_inside(member: Member, shown: str) -> None:
    if "\0" in member.name:
        why = "its name goes on behind a NUL, where programs differ about its end"
    elif _leaves(member.name):
        why = "it would be written outside the archive's own folder"
    elif member.kind == "link" and _leaves_from(member.name, member.target):
        why = f"a link that leaves the archive (to {member.target!r})"
    else:
        return
    raise DataRefused(
        f"{shown}: refused as a whole for its member {member.name[:200]!r}: {why};"
        " make the archive anew from the images themselves, with '/' between folders"
    )


def _leaves(name: str) -> bool:
    """Whether ``name`` leads out of a folder, on any system."""
    parts = name.replace("\\", "/").split("/")
    return (
        "\\" in name or name.startswith("/") or ".." in parts or bool(re.match("[A-Za-z]:", name))
    )


def _leaves_from(name: str, target: str) -> bool:
    """Whether a link called ``name`` with this target leads out of the archive."""
    if target.startswith("/") or "\\" in target or re.match("[A-Za-z]:", target):
        return True
    depth = len(PurePosixPath(name).parts) - 1
    for part in PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def _unusable(member: Member, path: str) -> str | None:
    """Why a member is left out, whatever it holds."""
    parts = path.split("/")
    if not is_text(path):
        return "names with control characters, or not in UTF-8"
    if ":" in path:
        return "names with ':'"
    if (
        any(len(part.encode()) > LONGEST_NAME for part in parts)
        or len(path.encode()) > _LONGEST_PATH
    ):
        return f"names longer than {LONGEST_NAME} bytes"
    if len(parts) > _DEEPEST:
        return f"files more than {_DEEPEST} folders deep"
    if member.kind == "link":
        return "links"
    if member.kind == "special":
        return "devices, pipes and other special files"
    return None


def _count_unwanted(planned: Plan, path: str) -> None:
    if PurePosixPath(path).suffix.lower() in _ARCHIVE_SUFFIXES:
        planned.refused["archives inside, which are not opened"] += 1
    else:
        planned.skipped["files that are no images by their names"] += 1


def _claim(taken: dict[str, str], path: str, shown: str) -> None:
    key = twin_key(path)
    if key in taken:
        other = taken[key]
        what = "is there twice" if other == path else f"is one file with {other!r} on some systems"
        raise DataRefused(
            f"{shown}: refused as a whole: {path!r} {what}, and which one is meant cannot be told;"
            " make the archive anew with a name of its own for each image"
        )
    taken[key] = path


def _add_size(
    planned: Plan, member: Member, limits: LimitParams, shown: str, packed: int | None
) -> None:
    planned.bytes += member.size
    if member.size > limits.file_bytes:
        what, key = f"{member.name!r} has {member.size:,} bytes", "file_bytes"
    elif planned.bytes > limits.bytes:
        what, key = f"its files have more than {limits.bytes:,} bytes together", "bytes"
    elif packed is not None and is_bomb(planned.bytes, packed, limits):
        what = f"{packed:,} bytes unpack to {planned.bytes:,} and more, like a bomb"
        key = "ratio"
    else:
        return
    raise DataRefused(beyond(shown, what, key, limits))


def is_bomb(unpacked: int, packed: int, limits: LimitParams) -> bool:
    return unpacked > max(_SMALL, packed * limits.ratio)


def beyond(shown: str, what: str, key: str, limits: LimitParams) -> str:
    """The message where a source passes the limit ``key``."""
    return (
        f"{shown}: {what}; ingest.limits.{key} in params.yaml allows {getattr(limits, key):,}:"
        " raise it if the source is to be trusted"
    )


def _check_folders(planned: Plan, taken: dict[str, str], shown: str) -> None:
    """See that no file is a folder too."""
    folders = set(planned.folders)
    for path in planned.files.values():
        folders.update(str(parent) for parent in PurePosixPath(path).parents)
    for folder in folders:
        if twin_key(folder) in taken:
            raise DataRefused(
                f"{shown}: refused as a whole: {folder!r} is a file and a folder at once;"
                " make the archive anew"
            )


def _is_system_path(path: str) -> bool:
    return any(is_system(part) for part in path.split("/"))
