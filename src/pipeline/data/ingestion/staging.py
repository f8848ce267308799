"""How the files of a version get into its folder: each read once, none copied without need.

Files that stay as they are in ``data/`` are hard links of them: the old version's name for the file
goes with the old folder, so no file of ``data/`` ever shares its bytes with anything but what DVC
itself linked it to. A source's own files are copied, never linked: an edit there must not reach
``data/``. See docs/adr/0009.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.data.ingestion import version
from pipeline.errors import DataRefused

_IN_MEMORY = 16 << 20
"""Bytes up to which a file is held in memory until it is known whether it is needed."""

_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES}


class Staging:
    """The folder of a version to come."""

    def __init__(
        self, folder: Path, *, data: Path, present: Mapping[str, str], scratch: Path
    ) -> None:
        """
        Args:
            folder: empty, beside ``data/``.
            data: the present version.
            present: the MD5 of each of its files.
            scratch: what a source unpacked; its files may be moved.
        """
        self.hashes: dict[str, str] = {}
        """The MD5 of every file in the folder."""
        self.bytes_in = 0
        """Bytes of the files that were not in ``data/`` before."""
        self.linked_to_cache = False
        """Some files kept from ``data/`` are links into DVC's cache."""
        self.shared = False
        """Some are now hard links of those in ``data/``, which had no other."""
        self.folder = folder
        self._data, self._present = data, present
        self._scratch = scratch.resolve()
        self._parents: set[Path] = set()

    def keep(self, name: str) -> None:
        """Take over ``name`` from ``data/``."""
        source, target = self._data / name, self._target(name)
        if source.is_symlink():  # DVC's, with cache.type symlink
            target.symlink_to(source.readlink())
            self.linked_to_cache = True
        else:
            alone = source.stat().st_nlink == 1
            try:
                os.link(source, target)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                version.copy_hashed(source, target)
            else:
                self.shared |= alone
                self.linked_to_cache |= not alone
        self.hashes[name] = self._present[name]

    def take(self, original: Path, place: Callable[[str], str | None]) -> None:
        """Bring in a source's file, under the name that ``place`` gives to its MD5, if any.

        Raises:
            DataRefused: the file vanished, or may not be read.
            OSError: the disk is full.
        """
        try:
            if original.parent.is_relative_to(self._scratch) and not original.is_symlink():
                self._move(original, place)
            elif original.stat().st_size <= _IN_MEMORY:
                self._write(original.read_bytes(), place)
            else:
                self._copy(original, place)
        except (FileNotFoundError, PermissionError) as error:
            raise DataRefused(
                f"{error.filename}: {os.strerror(error.errno or 0).lower()};"
                " make it readable, or leave it out, and ingest again"
            ) from error

    def write(self, name: str, content: bytes) -> None:
        """Write a file that no source has."""
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if self._present.get(name) == md5:
            self.keep(name)
        else:
            self._target(name).write_bytes(content)
            self.hashes[name] = md5

    def _write(self, content: bytes, place: Callable[[str], str | None]) -> None:
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        name = place(md5)
        if name is not None and self._is_new(name, md5, len(content)):
            with self._target(name).open("xb") as file:
                file.write(content)

    def _copy(self, original: Path, place: Callable[[str], str | None]) -> None:
        copy = self.folder / ".copy"
        md5 = version.copy_hashed(original, copy)
        self._settle(copy, md5, place)

    def _move(self, original: Path, place: Callable[[str], str | None]) -> None:
        md5 = version.copy_hashed(original, None)
        original.chmod(0o644)  # whatever an archive said
        self._settle(original, md5, place)

    def _settle(self, file: Path, md5: str, place: Callable[[str], str | None]) -> None:
        name = place(md5)
        if name is not None and self._is_new(name, md5, file.stat().st_size):
            shutil.move(file, self._target(name))
        else:
            file.unlink()

    def _is_new(self, name: str, md5: str, size: int) -> bool:
        """Note ``name``; ``False`` where ``data/`` has that very file, which is then kept."""
        if self._present.get(name) == md5:
            self.keep(name)
            return False
        self.hashes[name] = md5
        self.bytes_in += size
        return True

    def _target(self, name: str) -> Path:
        target = self.folder / name
        if target.parent not in self._parents:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._parents.add(target.parent)
        return target
