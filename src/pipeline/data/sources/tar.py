"""A reader of tar streams (POSIX.1-1988, -2001 and GNU) that only goes forward.

It is our own because what Python's tarfile does with a hostile header differs from release to
release: up to 3.11.13 a negative size makes it loop for ever, and extended headers and maps of
sparse files are read into memory whatever their size. Here a header has 512 bytes, an extended one
at most 64 KiB, and nothing is ever sought backwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from pipeline.data.sources.members import Member
from pipeline.errors import DataRefused

BLOCK = 512
_LARGEST_EXTENSION = 1 << 16

_REGULAR = b"0\0" + b"7"
_LINKS = b"12"
_FOLDER = b"5"
_LONG_NAME, _LONG_TARGET = b"L", b"K"
_GLOBAL = b"g"
_EXTENSIONS = b"xX" + _LONG_NAME + _LONG_TARGET + _GLOBAL
_SPARSE = b"S"
_WITHOUT_DATA = b"123456"


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass
class Entry:
    """A member and the way to its bytes, open until the next entry is asked for."""

    member: Member
    stream: Readable
    left: int
    """Bytes not yet read."""

    def read(self, size: int) -> bytes:
        """The next bytes of the member, at most ``size``; none at its end."""
        block = self.stream.read(min(size, self.left))
        self.left -= len(block)
        return block

    def skip(self) -> None:
        """Go to the member's end.

        Raises:
            DataRefused: the stream ends before it.
        """
        while self.left:
            if not self.read(1 << 20):
                raise DataRefused(_cut_short(self.member.name))


def is_header(block: bytes) -> bool:
    """Whether ``block`` begins a tar archive with at least one member."""
    return len(block) == BLOCK and any(block) and _checksum_holds(block)


def entries(stream: Readable) -> Iterator[Entry]:
    """The members of ``stream`` in order; what an entry leaves unread is skipped.

    Raises:
        DataRefused: the archive is damaged, or contradicts itself.
    """
    extension: dict[str, bytes] = {}
    while block := stream.read(BLOCK):
        if len(block) < BLOCK:
            raise DataRefused(_cut_short("a header"))
        if not any(block):
            return
        if not _checksum_holds(block):
            raise DataRefused("a header's checksum is wrong: the archive is damaged, get it anew")
        kind = block[156:157]
        if kind in _EXTENSIONS:
            size = _octal(block[124:136])
            extension |= _extension(kind, _padded(stream, size)[:size])
            continue
        entry = _entry(stream, block, extension)
        extension = {}
        padding = -entry.left % BLOCK
        yield entry
        entry.skip()
        _exactly(stream, padding)
    if extension:
        raise DataRefused(_cut_short("the last member's header"))


def _entry(stream: Readable, block: bytes, extension: dict[str, bytes]) -> Entry:
    kind = block[156:157]
    name = extension.get("path", _name(block))
    size = _decimal(extension["size"]) if "size" in extension else _octal(block[124:136])
    target = extension.get("linkpath", _until_nul(block[157:257]))
    more = kind == _SPARSE and block[482]
    while more:  # of the map of a sparse file, in blocks of its own
        more = _padded(stream, BLOCK)[504]
    data = 0 if kind in _WITHOUT_DATA else size
    plain = kind in _REGULAR and "GNU.sparse" not in extension
    if plain and name.endswith(b"/"):
        plain, kind = False, _FOLDER
    member = Member(
        name=_decoded(name),
        size=size if plain else 0,
        kind=(
            "file"
            if plain
            else "folder"
            if kind == _FOLDER
            else "link"
            if kind in _LINKS
            else "special"
        ),
        target=_decoded(target),
    )
    return Entry(member, stream, data)


def _extension(kind: bytes, body: bytes) -> dict[str, bytes]:
    """What an extended header says of the next member."""
    if kind == _LONG_NAME:
        return {"path": body.rstrip(b"\0")}
    if kind == _LONG_TARGET:
        return {"linkpath": body.rstrip(b"\0")}
    records = _records(body)
    if kind == _GLOBAL:
        if records.keys() & {"path", "linkpath", "size"}:
            raise DataRefused("a global header names all members alike: make the archive anew")
        return {}
    return records


def _records(body: bytes) -> dict[str, bytes]:
    """The records ``LENGTH KEY=VALUE\\n`` of a POSIX.1-2001 header that matter here."""
    records: dict[str, bytes] = {}
    while body:
        digits, blank, _ = body[:20].partition(b" ")
        length = int(digits) if blank and digits.isdigit() else 0
        record = body[len(digits) + 1 : length]
        key, equals, value = record.partition(b"=")
        if not equals or len(body) < length or not value.endswith(b"\n"):
            raise DataRefused("an extended header is damaged: get the archive anew")
        if key in {b"path", b"linkpath", b"size"}:
            records[key.decode()] = value[:-1]
        elif key.startswith(b"GNU.sparse"):
            records["GNU.sparse"] = b""
        body = body[length:]
    return records


def _padded(stream: Readable, size: int) -> bytes:
    """All blocks of an extended header of ``size`` bytes."""
    if size > _LARGEST_EXTENSION:
        raise DataRefused(
            f"a header claims {size:,} bytes, more than any name needs: damaged, or a trap"
        )
    return _exactly(stream, size + -size % BLOCK)


def _exactly(stream: Readable, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size and (part := stream.read(size - len(parts))):
        parts += part
    if len(parts) < size:
        raise DataRefused(_cut_short("a header"))
    return bytes(parts)


def _name(block: bytes) -> bytes:
    name, prefix = _until_nul(block[:100]), _until_nul(block[345:500])
    return prefix + b"/" + name if block[257:263] == b"ustar\0" and prefix else name


def _octal(field: bytes) -> int:
    """A number of a header: octal text, or binary where that would be too long."""
    if field[:1] in {b"\x80", b"\xff"}:
        number = int.from_bytes(field[1:], "big") - (field[0] == 0xFF) * 256 ** (len(field) - 1)
        return _bounded(number)
    text = field.split(b"\0")[0].strip()
    if not re.fullmatch(rb"[0-7]*", text):
        raise DataRefused(f"a header's size is {text!r}: damaged, get the archive anew")
    return int(text or b"0", 8)


def _decimal(text: bytes) -> int:
    """A number of an extended header."""
    if not re.fullmatch(rb"-?\d{1,30}", text):
        raise DataRefused(f"a header's size is {text[:30]!r}: damaged, get the archive anew")
    return _bounded(int(text))


def _bounded(size: int) -> int:
    if not 0 <= size < 1 << 62:
        raise DataRefused(f"a header's size is {size:,}: damaged, or a trap")
    return size


def _checksum_holds(block: bytes) -> bool:
    text = block[148:156].split(b"\0")[0].strip()
    if not re.fullmatch(rb"[0-7]{1,8}", text):
        return False
    bytes_ = block[:148] + b" " * 8 + block[156:]
    signed = sum(byte - 256 * (byte > 127) for byte in bytes_)
    return int(text, 8) in {sum(bytes_), signed}


def _until_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _cut_short(what: str) -> str:
    return f"ends within {what!r}: cut short on its way here? get the archive anew"
