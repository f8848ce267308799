"""What a source of images is: asked whether an address is its kind, it lists what lies there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from pipeline.data.sources.names import redacted
from pipeline.errors import ConfigurationError
from pipeline.params import LimitParams, TableParams

_SUFFIXES = "bmp gif jfif jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""By these a file without a row in a table counts as an image; what it holds is scan's to say."""

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"})

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
    """What the user wrote, for messages; a password and the like is taken out."""
    scratch: Path
    """Where a source may unpack or download to. Whoever asks removes it once the images are
    copied; after an error nothing is left in it."""
    cache: Path
    """Where downloads are kept from one ingest to the next."""
    limits: LimitParams
    skipped: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """What was left out on the way here; see `Listing`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shown", redacted(self.shown))

    @property
    def folder(self) -> Path:
        return self.base / os.path.expanduser(self.address)  # noqa: PTH111 (Path's may raise)


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
    """Why files that are none of the data were left out, and how many."""
    refused: Counter[str] = field(default_factory=Counter)
    """Why members of an archive or files of a download were left out that may be missed."""
    shown: str = ""
    """What the user calls ``folder``, where that is another name."""

    @property
    def where(self) -> str:
        """The table, or else the folder, for messages."""
        folder = self.shown or str(self.folder)
        return folder if self.lines is None else table_name(folder, self.origin)

    def place(self, row: int) -> str:
        """``"labels.csv, line 7"``, or the file's name."""
        if self.lines is None:
            return self.columns["file_name"][row]
        return f"{self.origin}, line {self.lines[row]}"


def table_name(shown: str, file: str) -> str:
    """What the user calls the table ``file``, where ``shown`` is it or the folder it lies in."""
    return shown if PurePosixPath(shown).name == file else f"{shown.rstrip('/')}/{file}"


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
