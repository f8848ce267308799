"""What one image file tells about itself: the part of the manifest that comes from its bytes.

A worker process imports this module and nothing heavier than NumPy and Pillow.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.data.decode import Decoded, DecodeError, decode
from pipeline.data.magic import magic
from pipeline.data.scanning.fingerprint import fingerprints, picture
from pipeline.data.scanning.pixel_measures import (
    lit,
    pixel_hash,
    sampled_rows,
    sharpness,
    shrink,
    tones,
)

UNCHANGED = "unchanged"
"""The status of a file whose SHA-256 is the one that was known; it is not decoded."""

_NO_FILE = "this is no file"
_SETTLED = 2_000_000_000  # nanoseconds: the coarsest time stamps of file systems in use


Fingerprint = bytes


@dataclass(slots=True)
class Measures:
    """One file's columns of the manifest, under the manifest's names; ``None`` where unknown."""

    file_name: str
    extension: str
    status: str = "ok"
    error: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    magic: str | None = None
    format: str | None = None
    mode: str | None = None
    bits: int | None = None
    alpha: int | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    exif_orientation: int | None = None
    brightness: float | None = None
    contrast: float | None = None
    sharpness: float | None = None
    entropy: float | None = None
    pixel_hash: str | None = None
    phash: str | None = None
    fingerprint: Fingerprint | None = None
    mtime_ns: int | None = None
    """With `ctime_ns` and `inode` the file's stamp: while it and ``bytes`` are what they were, the
    file is what it was. 0 where that cannot be relied on, because the file was written just before
    it was read; ``None`` where reading it again may tell something else."""
    ctime_ns: int | None = None
    inode: int | None = None

    def stamp(self, status: os.stat_result, now: int) -> None:
        """Note the stamp of the file, which is about to be read at ``now`` (nanoseconds).

        A file that is written again within the same tick of its file system's clock keeps its
        times: one that was written only just now is not to be recognised by them.
        """
        if max(status.st_mtime_ns, status.st_ctime_ns) > now - _SETTLED:
            self.mtime_ns = self.ctime_ns = self.inode = 0
        else:
            self.mtime_ns, self.ctime_ns = status.st_mtime_ns, status.st_ctime_ns
            self.inode = status.st_ino

    def forget_stamp(self) -> None:
        """The next time may tell something else."""
        self.mtime_ns = self.ctime_ns = self.inode = None

    def note_lack_of_memory(self) -> None:
        self.status, self.error = "too_large", "does not fit into memory"
        self.forget_stamp()


@dataclass(frozen=True)
class Limits:
    """What is not read or decoded at all."""

    max_bytes: int
    max_pixels: int


class Opened(NamedTuple):
    """A file that was read: what is known of it, and its image where there is one to measure."""

    measures: Measures
    decoded: Decoded | None = None


def open_file(
    folder: Path, file_name: str, limits: Limits, known_sha256: str | None = None
) -> Opened:
    """Read and decode ``folder / file_name``; a bad file ends in ``status``, not in an error.

    A file that still has ``known_sha256`` is read, but not decoded: its status is `UNCHANGED`.
    """
    measures = _named(file_name)
    try:
        data = _read(measures, os.path.join(folder, file_name), limits.max_bytes)  # noqa: PTH118
    except MemoryError:
        measures.note_lack_of_memory()
        return Opened(measures)
    except (OSError, ValueError) as error:
        _note_failure(measures, error)
        return Opened(measures)
    if data is None:
        return Opened(measures)
    if measures.sha256 == known_sha256:
        measures.status = UNCHANGED
        return Opened(measures)
    try:
        return Opened(measures, decode(data, max_pixels=limits.max_pixels))
    except DecodeError as error:
        measures.status, measures.error = error.status, error.reason
        if isinstance(error.__cause__, MemoryError):
            measures.forget_stamp()
    return Opened(measures)


def measure_pixels(group: Sequence[Opened]) -> None:
    """Complete the measures of all images in ``group``, which are those of the upright image.

    One measure after the other for all of them, which leaves the code of each in the processor's
    caches: a fifth faster than image by image. What comes out does not depend on the group.

    Raises:
        DecodeError, MemoryError: of one of several, which then have to be measured alone.
    """
    images = [(measures, decoded) for measures, decoded in group if decoded is not None]
    try:
        _measure(images)
    except DecodeError as error:
        if len(images) > 1:
            raise
        images[0][0].status, images[0][0].error = error.status, error.reason
    except MemoryError:
        if len(images) > 1:
            raise
        images[0][0].note_lack_of_memory()


def without_reading(folder: Path, file_name: str) -> Measures | None:
    """The measures of a name that is no file's; ``None`` where there is a file to read."""
    measures = _named(file_name)
    try:
        if stat.S_ISREG((folder / file_name).stat().st_mode):
            return None
    except (OSError, ValueError) as error:
        _note_failure(measures, error)
    else:
        measures.status, measures.error = "unreadable", _NO_FILE
    return measures


def _note_failure(measures: Measures, error: OSError | ValueError) -> None:
    if isinstance(error, FileNotFoundError):
        measures.status, measures.error = "missing", "listed, but not there"
    else:  # ValueError: a NUL in the name
        measures.status = "unreadable"
        measures.error = getattr(error, "strerror", None) or str(error)
    measures.forget_stamp()


def _named(file_name: str) -> Measures:
    stem, dot, extension = file_name.rpartition("/")[2].rpartition(".")
    return Measures(file_name, f".{extension.lower()}" if dot and stem and extension else "")


def _read(measures: Measures, path: str, max_bytes: int) -> bytes | None:
    """The file's bytes, unless the file system already settles it; notes what that says."""
    now = time.time_ns()
    # Not blocking: to open a pipe would else mean to wait for someone who writes into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            measures.status, measures.error = "unreadable", _NO_FILE
            return None
        measures.bytes = before.st_size
        measures.stamp(before, now)
        if before.st_size > max_bytes:
            measures.status = "too_large"
            measures.error = f"{before.st_size:,} bytes, above {max_bytes:,}"
            return None
        data = os.read(descriptor, before.st_size + 1)
        while len(data) < before.st_size and (more := os.read(descriptor, before.st_size)):
            data += more
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if (after.st_size, after.st_mtime_ns) != (len(data), before.st_mtime_ns):
        raise OSError(errno.EAGAIN, "changed while it was read; scan again")
    measures.sha256 = hashlib.sha256(data).hexdigest()
    measures.magic = magic(data)
    return data


def _measure(images: Sequence[tuple[Measures, Decoded]]) -> None:
    """Nothing is noted before all is known: memory may run out on the way."""
    if not images:
        return
    seen = [lit(decoded.image) for _, decoded in images]
    samples = [sampled_rows(pixels) for pixels in seen]
    pictures = [picture(shrink(pixels)) for pixels in seen]
    hashes = [pixel_hash(decoded.image) for _, decoded in images]
    tone = tones(samples)
    sharp = [sharpness(sample) for sample in samples]
    looks = fingerprints(pictures)
    for i, (measures, decoded) in enumerate(images):
        _describe(measures, decoded)
        measures.brightness, measures.contrast, measures.entropy = tone[i]
        measures.sharpness = sharp[i]
        measures.pixel_hash = hashes[i]
        measures.phash, measures.fingerprint = looks[i]


def _describe(measures: Measures, decoded: Decoded) -> None:
    image = decoded.image
    measures.format = decoded.format
    measures.mode = image.mode
    measures.bits = decoded.bits
    measures.alpha = int(image.has_transparency_data)
    measures.width, measures.height = image.size
    measures.frames = decoded.frames
    measures.exif_orientation = decoded.exif_orientation
