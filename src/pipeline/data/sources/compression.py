"""Compressed files read as streams, in bounded memory and up to a limit."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Self, cast

from pipeline.data.sources.members import beyond, is_bomb
from pipeline.errors import DataRefused
from pipeline.params import LimitParams

_XZ_MEMORY = 256 << 20
"""Bytes; what xz itself needs at its strongest is a quarter of it."""

_ZSTD = importlib.import_module("compression.zstd") if sys.version_info >= (3, 14) else None

_DAMAGE: tuple[type[Exception], ...] = (
    *(EOFError, OSError, ValueError, lzma.LZMAError, zlib.error),
    *([_ZSTD.ZstdError] if _ZSTD else []),
)
"""What is raised over compressed bytes that make no sense."""


class _Xz(io.RawIOBase):
    """An xz file, read with a cap on the memory its header may ask for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        while True:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data or self._file.read(1 << 16)
                if not rest.strip(b"\0"):
                    return 0
                self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
                packed = rest
            else:
                packed = self._file.read(1 << 16) if self._decompressor.needs_input else b""
                if self._decompressor.needs_input and not packed:
                    raise EOFError("the compressed data ends too early")
            if block := self._decompressor.decompress(packed, len(view)):
                view[: len(block)] = block
                return len(block)

    def close(self) -> None:
        self._file.close()
        super().close()


def _open_zst(path: Path) -> BinaryIO:
    if _ZSTD is None:
        raise DataRefused(
            "Python reads Zstandard from version 3.14 on; unpack it by 'unzstd' first"
        )
    return cast(BinaryIO, _ZSTD.open(path, "rb"))


_FORMATS: dict[bytes, Callable[[Path], BinaryIO]] = {
    b"\x1f\x8b": lambda path: cast(BinaryIO, gzip.GzipFile(path)),
    b"BZh": lambda path: cast(BinaryIO, bz2.BZ2File(path)),
    b"\xfd7zXZ\0": lambda path: io.BufferedReader(_Xz(path.open("rb")), 1 << 16),
    b"\x28\xb5\x2f\xfd": _open_zst,
}
"""How a file that begins so is opened."""


class Unpacked:
    """A file's bytes without their compression, if it has one, up to a limit.

    Raises:
        DataRefused: on reading, where the data is damaged or passes ``limits``.
    """

    def __init__(self, path: Path, limits: LimitParams, shown: str) -> None:
        self._packed, self._limits, self._shown = path.stat().st_size, limits, shown
        self._unpacked = 0
        with path.open("rb") as file:
            start = file.read(8)
        opener = next((o for magic, o in _FORMATS.items() if start.startswith(magic)), None)
        self.compressed = opener is not None
        try:
            self._file: BinaryIO = opener(path) if opener else path.open("rb")
        except DataRefused as error:
            raise DataRefused(f"{shown}: {error}") from error

    def read(self, size: int, /) -> bytes:
        try:
            block = self._file.read(size)
        except _DAMAGE as error:
            raise DataRefused(
                f"{self._shown}: cannot be unpacked ({error}); is it complete? get it anew"
            ) from error
        self._unpacked += len(block)
        if self.compressed and is_bomb(self._unpacked, self._packed, self._limits):
            what = f"{self._packed:,} bytes unpack to {self._unpacked:,} and more, like a bomb"
            raise DataRefused(beyond(self._shown, what, "ratio", self._limits))
        return block

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
