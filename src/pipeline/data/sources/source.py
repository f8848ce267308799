"""What a source of images is: asked whether an address is its kind, it lists what lies there."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from pipeline.errors import ConfigurationError, DataRefused
from pipeline.params import TableParams

_SUFFIXES = "bmp gif jfif jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""By these a file without a row in a table counts as an image; what it holds is scan's to say."""

_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "__pycache__"})


@dataclass(frozen=True)
class Request:
    """Where to look. Relative addresses start at ``base``."""

    address: str
    table: TableParams | None
    configured: bool
    """The address is ``ingest.source``, so ``table`` is about it and must fit. A folder named on
    the command line is read by its own ``metadata.csv``, else by ``table`` where that file is."""
    base: Path
    shown: str
    """What the user wrote, for messages."""

    @property
    def folder(self) -> Path:
        return self.base / Path(self.address).expanduser()


@dataclass(frozen=True)
class Listing:
    """The images of a source and what is said about them, before any rule of ``params.yaml``."""

    folder: Path
    """Holds all files; links are resolved."""
    columns: dict[str, list[str]]
    """Text as it stands in the source. ``file_name``, always there, is a unique relative POSIX path
    of an existing file in ``folder``."""
    origin: str
    """For messages: ``labels.csv``, or ``class folders``."""
    lines: list[int] | None = None
    """The line of each row in a table."""
    classes: tuple[str, ...] | None = None
    """The frozen order of the classes, where the source has one."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Why files were left out, and how many."""

    def place(self, row: int) -> str:
        """``"labels.csv, line 7"``, or the file's name."""
        if self.lines is None:
            return self.columns["file_name"][row]
        return f"{self.origin}, line {self.lines[row]}"


class Source(Protocol):
    """One kind of source; a module of this package."""

    FORM: str
    """How its address is written, for ``--help`` and messages."""

    def claims(self, request: Request) -> bool:
        """Whether ``request`` is this kind's to read, judged without reading images."""

    def read(self, request: Request) -> Listing | Request:
        """List what is there, or say where to look instead.

        Raises:
            ConfigurationError: the address or ``request.table`` is wrong.
            DataRefused: what lies there cannot be used.
        """


def safe_name(name: str, place: str) -> str:
    """``name`` in its shortest form.

    Raises:
        DataRefused: it is no path inside a folder, or has characters that no table can carry.
    """
    path = PurePosixPath(name)
    leaves = path.is_absolute() or ".." in path.parts or ":" in name or "\\" in name
    if leaves or not path.parts:
        raise DataRefused(
            f"{place}: {name!r} is no path inside the source's folder, such as images/a.png;"
            " correct it (no '..', no drive or address, '/' between folders)"
        )
    if not is_text(name):
        raise DataRefused(
            f"{place}: {name!r} has control characters, or is not UTF-8; rename the file"
        )
    if any(len(part.encode()) > 255 for part in path.parts):
        raise DataRefused(f"{place}: '{name[:60]}…' is too long for a file's name; shorten it")
    return str(path)


def is_text(name: str) -> bool:
    """Whether ``name`` can stand in one line of UTF-8 text."""
    return not any(unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} for letter in name)


def inside(path: Path, folder: Path, resolved: dict[Path, bool]) -> Path:
    """``path``, which may be a link but must not lead out of ``folder`` (itself resolved).

    ``resolved`` remembers the folders already looked at.

    Raises:
        DataRefused: it leads out.
    """
    parent = path.parent
    if parent not in resolved:
        resolved[parent] = parent.resolve().is_relative_to(folder)
    if resolved[parent] and not path.is_symlink():
        return path
    target = path.resolve()
    if not target.is_relative_to(folder):
        raise DataRefused(
            f"{path}: a link that leaves {folder} (to {target}); put the file itself there"
        )
    return path


def walk(folder: Path, skipped: Counter[str]) -> Iterator[str]:
    """The relative POSIX paths of the image files below ``folder``, in order.

    Hidden and system files, other files, and links to folders are counted in ``skipped``.
    """
    for parent, folders, files in os.walk(folder, onerror=_unreadable):
        for name in [*folders]:
            if is_system(name):
                folders.remove(name)
            elif Path(parent, name).is_symlink():
                folders.remove(name)
                skipped["links to folders"] += 1
        folders.sort()
        relative = Path(parent).relative_to(folder)
        for name in sorted(files):
            if is_system(name):
                skipped["hidden and system files"] += 1
            elif Path(name).suffix.lower() not in IMAGE_SUFFIXES:
                skipped["files that are no images by their names"] += 1
            elif not Path(parent, name).is_file():
                skipped["links to nothing, and special files"] += 1
            else:
                yield (relative / name).as_posix()


def is_system(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or made by a system for itself."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def _unreadable(error: OSError) -> None:
    raise error


def check_folder(request: Request) -> Path:
    """The resolved folder of ``request``.

    Raises:
        ConfigurationError: it holds the project itself, whose own pictures would be taken.
    """
    folder = request.folder.resolve()
    if request.base.resolve().is_relative_to(folder):
        raise ConfigurationError(
            f"{request.shown}: holds the project itself; name a folder with images alone"
        )
    return folder
