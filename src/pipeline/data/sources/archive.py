"""A zip, or a tar with or without compression, of anything that is itself a source."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pipeline.console import progress
from pipeline.data.manifest import split_of
from pipeline.data.sources import tar
from pipeline.data.sources.compression import Unpacked
from pipeline.data.sources.members import Plan, make_folders, plan, useful, write_member
from pipeline.data.sources.source import IMAGE_SUFFIXES, Request, is_system
from pipeline.data.sources.zip_archive import MAGICS, ZipArchive
from pipeline.errors import DataRefused

FORM = "a zip or tar of such a folder"

_SUFFIXES = (
    ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst",
)  # fmt: skip


def claims(request: Request) -> bool:
    path = request.folder
    if not path.is_file():
        return False
    try:
        named = path.name.lower().endswith(_SUFFIXES)
        return named or _starts_as_zip(path) or _starts_as_tar(request)
    except DataRefused:  # damaged, and not even by its name an archive
        return False


def read(request: Request) -> Request:
    """Unpack what is an image or a table, and point to it.

    Raises:
        DataRefused: the archive is damaged, or cannot be trusted; see `members.plan`.
    """
    path, target = request.folder, request.scratch / "unpacked"
    target.mkdir(parents=True)
    if _starts_as_zip(path):
        with ZipArchive(path, request.shown) as archive:
            planned = plan(
                archive.members(),
                request.limits,
                request.shown,
                wanted=useful(request.table),
                packed=path.stat().st_size,
            )
            make_folders(planned, target)
            archive.copy(planned, target)
    elif _starts_as_tar(request):
        planned = _unpack_tar(request, path, target)
    else:
        raise DataRefused(
            f"{request.shown}: its content is no zip or tar, whatever its name; get it anew"
        )
    return dataclasses.replace(
        request,
        address=str(_top(target)),
        skipped=request.skipped + planned.skipped,
        refused=request.refused + planned.refused,
    )


def _unpack_tar(request: Request, path: Path, target: Path) -> Plan:
    """Read the tar twice: what is wrong with any member is known before one is written."""
    shown, limits = request.shown, request.limits
    try:
        with Unpacked(path, limits, shown) as stream:
            planned = plan(
                (entry.member for entry in tar.entries(stream)),
                limits,
                shown,
                wanted=useful(request.table),
                packed=path.stat().st_size if stream.compressed else None,
            )
        make_folders(planned, target)
        with (
            Unpacked(path, limits, shown) as stream,
            progress("unpack", len(planned.files), "files") as step,
        ):
            for position, entry in enumerate(tar.entries(stream)):
                if name := planned.files.get(position):
                    size = entry.member.size
                    write_member(target / name, size, entry.read, f"{shown}: {name!r}")
                    step.advance()
    except DataRefused as error:
        said = str(error)
        raise DataRefused(said if said.startswith(shown) else f"{shown}: {said}") from error
    return planned


def _starts_as_tar(request: Request) -> bool:
    with Unpacked(request.folder, request.limits, request.shown) as stream:
        return tar.is_header(stream.read(tar.BLOCK))


def _starts_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in MAGICS


def _top(folder: Path) -> Path:
    """``folder``, or the folder in it that holds everything, as most programs pack it."""
    inner = list(folder.iterdir())
    if len(inner) != 1 or not inner[0].is_dir() or split_of(inner[0].name):
        return folder
    below = [path for path in inner[0].iterdir() if not is_system(path.name)]
    is_class = all(path.is_file() for path in below) and not any(map(_describes, below))
    return folder if is_class else inner[0]


def _describes(path: Path) -> bool:
    """Whether a file says what the folder it lies in is, as no image does."""
    return path.suffix.lower() not in IMAGE_SUFFIXES
