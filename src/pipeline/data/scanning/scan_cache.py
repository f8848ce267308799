"""What the last scan measured, kept so that the next one reads only what has changed.

A folder of two files, named by what they hold, and ``index.json``, which says with which code and
settings they were made and what their hashes are. The index is replaced last and whole; files are
not fsynced, because one that a power cut has torn does not have its hash. Whatever does not fit is
as if it were not there: the cache only ever saves time. The hashes are against accidents (who may
write here may do worse), so the large file has one that costs less than to read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from pipeline.console import logger
from pipeline.data import decode, jpeg, magic
from pipeline.data.scanning import (
    comparison,
    duplicates,
    fingerprint,
    hamming,
    measure,
    memory,
    pixel_measures,
)
from pipeline.data.scanning.fingerprint import FINGERPRINT_BYTES
from pipeline.params import ScanParams

CHECKERS = (
    comparison,
    decode,
    duplicates,
    fingerprint,
    hamming,
    jpeg,
    magic,
    measure,
    memory,
    pixel_measures,
)
"""The modules whose code decides what is measured."""

_LIBRARIES = ("numpy", "pillow", "xxhash")
_BLOCK = 1 << 20
_SURELY_LEFT_OVER = 24 * 3600  # seconds


def _content_hash(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def checker_key(params: ScanParams) -> str:
    """Equal where the code, the libraries and the settings that measure are."""
    digest = hashlib.sha256(params.model_dump_json().encode())
    for module in CHECKERS:
        digest.update(Path(str(module.__file__)).read_bytes())
    for library in _LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Remembered:
    """A cache's content: the measured rows, and where the fingerprints of their images are."""

    table: pa.Table
    path: Path
    """The file of the fingerprints, and the hash of what it has to hold."""
    content_hash: str
    proposals: int | None
    """`duplicates.Near.proposals` of the clusters in ``table``."""

    def fingerprints(self) -> NDArray[np.uint8] | None:
        """(M, FINGERPRINT_BYTES), mapped into memory; ``None`` where the file is damaged."""
        with contextlib.suppress(OSError, ValueError):
            if _content_hash(self.path) == self.content_hash:
                mapped: NDArray[np.uint8] = np.load(self.path, mmap_mode="r", allow_pickle=False)
                return mapped
        return None


class ScanCache:
    """The cache in ``folder`` of what the code and settings of ``key`` measured."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key

    def load(self, schema: pa.Schema) -> Remembered | None:
        """What `save` wrote, if it is whole and of the same key and ``schema``."""
        try:
            index = json.loads((self._folder / "index.json").read_text(encoding="utf-8"))
            if index["key"] != self._key:
                logger.info("scan: the code or the settings are new, so every file is read")
                return None
            content = (self._folder / index["measures"]).read_bytes()
            if hashlib.sha256(content).hexdigest() != index["measures_sha256"]:
                raise ValueError("it is not what was written")
            table = pq.ParquetFile(pa.BufferReader(content)).read()
            if table.schema != schema:
                raise ValueError("it has other columns")
            if not len(table):
                raise ValueError("it has no rows")
            fingerprints = self._folder / index["fingerprints"]
            proposals = None if index["proposals"] is None else int(index["proposals"])
            return Remembered(table, fingerprints, index["fingerprints_xxh3"], proposals)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            logger.info("scan: what was remembered cannot be used (%s), every file is read", error)
            return None

    def new_fingerprints(self, count: int) -> FingerprintFile:
        """A file for ``count`` fingerprints, which `save` adopts."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return FingerprintFile(self._folder, count)

    def save(
        self, table: pa.Table, fingerprints: FingerprintFile | Remembered, proposals: int | None
    ) -> None:
        """Remember ``table`` and the file of fingerprints, new or as before; forget the rest."""
        try:
            self._save(table, fingerprints, proposals)
        except OSError as error:
            logger.warning("scan: nothing is remembered for the next one: %s", error)

    def _save(
        self, table: pa.Table, fingerprints: FingerprintFile | Remembered, proposals: int | None
    ) -> None:
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="lz4", write_statistics=False)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        measures = f"measures-{digest[:16]}.parquet"
        self._write(measures, content)
        if isinstance(fingerprints, Remembered):
            name, content_hash = fingerprints.path.name, fingerprints.content_hash
        else:
            content_hash = fingerprints.close()
            name = f"fingerprints-{content_hash[:16]}.npy"
            fingerprints.path.replace(self._folder / name)
        index = {
            "key": self._key,
            "measures": measures,
            "measures_sha256": digest,
            "fingerprints": name,
            "fingerprints_xxh3": content_hash,
            "proposals": proposals,
        }
        self._write("index.json", json.dumps(index, indent=2).encode())
        self._forget_all_but({"index.json", measures, name})

    def _forget_all_but(self, kept: set[str]) -> None:
        """Remove what no index names any more; what is young may be another scan's that runs now.

        An experiment in a copy of the project has the same cache and a workspace lock of its own.
        """
        old = time.time() - _SURELY_LEFT_OVER
        for path in self._folder.iterdir():
            temporary = path.name.startswith(".")
            with contextlib.suppress(OSError):
                if path.name not in kept and not (temporary and path.stat().st_mtime > old):
                    path.unlink()

    def _write(self, name: str, content: bytes | pa.Buffer) -> None:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=self._folder)
        with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor)
            file.write(content)
        os.replace(temporary, self._folder / name)  # noqa: PTH105


class FingerprintFile:
    """An array file (N, FINGERPRINT_BYTES) that is written row by row, zeros where none is.

    It is written, not mapped: on a full disk a write raises, a store to a mapped page would kill.
    """

    def __init__(self, folder: Path, count: int) -> None:
        descriptor, name = tempfile.mkstemp(prefix=".fingerprints.", suffix=".npy", dir=folder)
        self.path = Path(name)
        self._file = open(descriptor, "wb")  # noqa: PTH123, SIM115 (a descriptor; see close)
        shape = (count, FINGERPRINT_BYTES)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._start = self._file.tell()
        self._file.truncate(self._start + count * FINGERPRINT_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)  # unless the cache has taken it

    def write(self, row: int, fingerprints: bytes | memoryview) -> None:
        """Write one or more fingerprints from ``row`` on."""
        self._file.seek(self._start + row * FINGERPRINT_BYTES)
        self._file.write(fingerprints)

    def close(self) -> str:
        """Write what is still to be written; returns the hash of what the file holds."""
        self._file.close()
        return _content_hash(self.path)

    def load(self) -> NDArray[np.uint8]:
        self._file.flush()
        mapped: NDArray[np.uint8] = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return mapped
