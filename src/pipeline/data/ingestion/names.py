"""Names for new files in ``data/`` that no other file has, on any file system."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from pipeline.data.ingestion.canonical import IMAGES

_LONGEST = 255
"""Bytes in a file's name, on all common file systems."""


class Names:
    """The names that are taken: as they read where case and accents do not count."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()
        for name in taken:
            self._add(name)

    def claim(self, name: str, md5: str) -> str:
        """``name`` where it is free, else ``…-MD5`` with as few digits as make it unique.

        So the new name follows from the file's bytes, not from the moment.
        """
        for candidate in (name, *(_renamed(name, md5[:n]) for n in (8, 16, 32))):
            if self._free(candidate):
                self._add(candidate)
                return candidate
        # A file has the name of one of its folders.
        flat = f"{IMAGES}/{md5}{PurePosixPath(name).suffix}"
        self._add(flat)
        return flat

    def _free(self, name: str) -> bool:
        folded = _fold(name)
        return (
            folded not in self._files
            and folded not in self._folders
            and not any(parent in self._files for parent in _parents(folded))
        )

    def _add(self, name: str) -> None:
        folded = _fold(name)
        self._files.add(folded)
        self._folders.update(_parents(folded))


def _renamed(name: str, digits: str) -> str:
    path = PurePosixPath(name)
    end = f"-{digits}{path.suffix}"
    stem = path.stem.encode()[: _LONGEST - len(end.encode())].decode(errors="ignore")
    return str(path.with_name(stem + end))


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _parents(name: str) -> Iterable[str]:
    return (str(parent) for parent in PurePosixPath(name).parents)
