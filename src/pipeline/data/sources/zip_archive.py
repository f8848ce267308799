"""The members of a zip, read by Python's zipfile and distrusted."""

from __future__ import annotations

import itertools
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.console import progress
from pipeline.data.sources.members import Member, Plan, write_member
from pipeline.errors import DataRefused

MAGICS = (b"PK\x03\x04", b"PK\x05\x06")

_LOCAL_HEADER = 30
_ENCRYPTED = 0x1 | 0x40
_UTF8 = 0x800
_UNICODE_PATH = 0x7075
_LONGEST_TARGET = 4096
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError)
"""What zipfile raises over bytes that make no sense."""


class ZipArchive:
    """An open zip. Use it in a ``with`` statement.

    Raises:
        DataRefused: on opening and on reading, where it is damaged, encrypted, or its entries
            share bytes.
    """

    def __init__(self, path: Path, shown: str) -> None:
        self._shown = shown
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGE as error:
            raise self._damaged(error) from error
        self._entries = self._zip.infolist()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._zip.close()

    def members(self) -> Iterator[Member]:
        """All entries in order, after a look at where each lies."""
        self._check_overlaps()
        for entry in self._entries:
            name = _name(entry)
            if entry.flag_bits & _ENCRYPTED:
                raise DataRefused(
                    f"{self._shown}: {name!r} is encrypted; zip it without a password"
                )
            if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise DataRefused(
                    f"{self._shown}: {name!r} is packed by method {entry.compress_type}, which few"
                    " programs read; zip it with the usual one, deflate"
                )
            yield self._member(entry, name)

    def copy(self, planned: Plan, target: Path) -> None:
        """Write the planned members below ``target``, whose folders are there."""
        with progress("unpack", len(planned.files), "files") as step:
            for position, path in planned.files.items():
                entry = self._entries[position]
                try:
                    with self._zip.open(entry) as stream:
                        name = f"{self._shown}: {path!r}"
                        write_member(target / path, entry.file_size, stream.read, name)
                except _DAMAGE as error:
                    raise self._damaged(error) from error
                step.advance()

    def _member(self, entry: zipfile.ZipInfo, name: str) -> Member:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind == stat.S_IFLNK:
            try:
                with self._zip.open(entry) as stream:
                    target = stream.read(_LONGEST_TARGET).decode("utf-8", "surrogateescape")
            except _DAMAGE as error:
                raise self._damaged(error) from error
            return Member(name, 0, "link", target)
        if name.endswith("/") or kind == stat.S_IFDIR:
            return Member(name, 0, "folder")
        if kind not in {0, stat.S_IFREG}:
            return Member(name, 0, "special")
        return Member(name, entry.file_size)

    def _check_overlaps(self) -> None:
        """See that no byte belongs to two entries, which is how a zip becomes a bomb.

        How long a local header is beyond its fixed part and its name stands in it alone; what that
        leaves uncounted cannot hold an entry.
        """
        spans = sorted(
            (entry.header_offset, entry.compress_size + _LOCAL_HEADER + len(entry.orig_filename))
            for entry in self._entries
        )
        spans.append((self._zip.start_dir, 0))
        for (start, length), (following, _) in itertools.pairwise(spans):
            if start < 0 or start + length > following:
                raise DataRefused(
                    f"{self._shown}: refused as a whole: two of its entries share bytes, as in a"
                    " zip bomb; zip the images anew"
                )

    def _damaged(self, error: Exception) -> DataRefused:
        return DataRefused(
            f"{self._shown}: cannot be unpacked ({error}); is it complete? get it anew"
        )


def _name(entry: zipfile.ZipInfo) -> str:
    """The name as it stands in the archive, the same in every version of Python."""
    name = entry.orig_filename
    if entry.flag_bits & _UTF8:
        return name
    raw, extra = name.encode("cp437"), entry.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        body, extra = extra[4 : 4 + length], extra[4 + length :]
        known = kind == _UNICODE_PATH and len(body) > 5 and body[0] == 1
        if known and struct.unpack_from("<I", body, 1)[0] == zlib.crc32(raw):
            return body[5:].decode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")  # as macOS writes them, without the flag
    except UnicodeDecodeError:
        return name
