"""Archives, sound ones and hostile ones, made by code."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.corpus.case import BAD, CAT, DOG, GOOD, Case

Make = Callable[[Path], Path]


def zipped(
    *more: tuple[str | zipfile.ZipInfo, bytes],
    name: str = "a.zip",
    method: int = zipfile.ZIP_DEFLATED,
    edit: Callable[[bytes], bytes] = bytes,
) -> Make:
    """A zip of the good images and ``more``, its bytes then changed by ``edit``."""

    def make(folder: Path) -> Path:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for member, content in [*GOOD.items(), *more]:
                archive.writestr(member, content)
        (folder / name).write_bytes(edit(buffer.getvalue()))
        return folder / name

    return make


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def renamed(old: str, new: str) -> Callable[[bytes], bytes]:
    """Change a member's name, of equal length, wherever it stands."""
    assert len(old.encode()) == len(new.encode("utf-8", "surrogateescape"))
    return lambda data: data.replace(old.encode(), new.encode("utf-8", "surrogateescape"))


def zip_outside(folder: Path) -> Path:
    return zipped((f"{folder.parent}/evil.png", BAD))(folder)


def flagged(data: bytes) -> bytes:
    """Every entry says that it is encrypted."""
    changed = bytearray(data)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := data.find(magic, start + 1)) >= 0:
            changed[start + offset] |= 1
    return bytes(changed)


def claims_size(change: int) -> Callable[[bytes], bytes]:
    """The last entry's directory claims another size of its content."""

    def edit(data: bytes) -> bytes:
        start = data.rfind(b"PK\x01\x02") + 24
        (size,) = struct.unpack_from("<I", data, start)
        return data[:start] + struct.pack("<I", size + change) + data[start + 4 :]

    return edit


def overlapping(data: bytes) -> bytes:
    """The second entry of the directory lies where the first does, as in a zip bomb."""
    first = data.find(b"PK\x01\x02")
    second = data.find(b"PK\x01\x02", first + 1)
    changed = bytearray(data)
    changed[second + 42 : second + 46] = data[first + 42 : first + 46]
    return bytes(changed)


def corrupted(data: bytes) -> bytes:
    start = data.find(CAT[:8])
    return data[: start + 20] + bytes([data[start + 20] ^ 0xFF]) + data[start + 21 :]


def header(name: bytes, size: bytes | int = 0, kind: bytes = b"0", target: bytes = b"") -> bytes:
    """A tar header; a ``size`` of bytes stands as it is in its field."""
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    block = bytearray(512)
    block[:100] = name[:100].ljust(100, b"\0")
    block[100:108] = b"0000644\0"
    block[124:136] = field.ljust(12, b"\0")
    block[136:148] = b"%011o\0" % 0
    block[156:157] = kind
    block[157:257] = target.ljust(100, b"\0")
    block[257:265] = b"ustar\00000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def member(name: str | bytes, content: bytes = BAD, **fields: bytes) -> bytes:
    raw = name if isinstance(name, bytes) else name.encode()
    return header(raw, len(content), **fields) + padded(content)


def tarred(
    *more: bytes,
    name: str = "a.tar",
    pack: Callable[[bytes], bytes] = bytes,
    end: bytes = bytes(1024),
) -> Make:
    """A tar of the good images and the raw blocks ``more``."""

    def make(folder: Path) -> Path:
        blocks = b"".join([*(member(n, c) for n, c in GOOD.items()), *more])
        (folder / name).write_bytes(pack(blocks + end))
        return folder / name

    return make


def pax(kind: bytes = b"x", **records: str | bytes) -> bytes:
    """An extended header for the next member."""
    body = b""
    for key, value in records.items():
        text = b" " + key.replace("__", ".").encode() + b"="
        text += (value if isinstance(value, bytes) else value.encode()) + b"\n"
        length = len(text) + 2
        length = len(text) + len(str(length))
        body += str(length).encode() + text
    return header(b"pax", len(body), kind) + padded(body)


def tar_outside(folder: Path) -> Path:
    return tarred(member(f"{folder.parent}/evil.png"))(folder)


def by_tarfile(format_: int) -> Make:
    def make(folder: Path) -> Path:
        with tarfile.open(folder / "a.tar", "w", format=format_) as archive:
            for name, content in GOOD.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return folder / "a.tar"

    return make


def plain(name: str, content: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def wrapped(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for name, content in GOOD.items():
            archive.writestr(f"photos/{name}", content)
        archive.writestr("__MACOSX/photos/._1.png", b"resource fork")
    return folder / "a.zip"


ZIPS = (
    Case("zip", zipped()),
    Case("zip without suffix", zipped(name="photos")),
    Case("zip in a top folder", wrapped, reasons=("hidden and system files",)),
    Case("zip of stored members", zipped(method=zipfile.ZIP_STORED)),
    Case("zip slip", zipped(("../evil.png", BAD)), "outside the archive's own folder"),
    Case("zip slip inside", zipped(("cat/../../evil.png", BAD)), "outside the archive"),
    Case("zip with ..", zipped(("cat/../dog/3.png", BAD)), "outside the archive's own folder"),
    Case("zip absolute", zip_outside, "outside the archive's own folder"),
    Case("zip drive", zipped(("C:/evil.png", BAD)), "outside the archive's own folder"),
    Case("zip drive-relative", zipped(("C:evil.png", BAD)), "outside the archive's own folder"),
    Case("zip UNC", zipped(("\\\\host\\x.png", BAD)), "outside the archive's own folder"),
    Case("zip backslashes", zipped(("cat\\3.png", BAD)), "outside the archive's own folder"),
    Case("zip backslash slip", zipped(("..\\e.png", BAD)), "outside the archive's own folder"),
    Case("zip link outside", zipped((entry("cat/3.png", stat.S_IFLNK), b"../../x")), "a link that"),
    Case("zip absolute link", zipped((entry("l", stat.S_IFLNK), b"/etc")), "leaves the archive"),
    Case("zip link inside", zipped((entry("cat/3.png", stat.S_IFLNK), b"1.png")),
         reasons=("links",)),
    Case("zip FIFO", zipped((entry("cat/3.png", stat.S_IFIFO), b"")), reasons=("special files",)),
    Case("zip device", zipped((entry("cat/3.png", stat.S_IFCHR), b"")), reasons=("special files",)),
    Case("zip inside", zipped(("cat/more.zip", b"PK")), reasons=("archives inside",)),
    Case("zip overlapping", zipped(edit=overlapping), "two of its entries share bytes"),
    Case("zip encrypted", zipped(edit=flagged), "is encrypted"),
    Case("zip duplicate", zipped(("dog/3.png", CAT), ("dog/4.png", DOG),
         edit=renamed("dog/4.png", "dog/3.png")), "'dog/3.png' is there twice"),
    Case("zip duplicate by ./", zipped(("./dog/2.png", BAD)), "'dog/2.png' is there twice"),
    Case("zip case twins", zipped(("dog/3.png", CAT), ("dog/3.PNG", BAD)), "is one file with"),
    Case("zip folder twins", zipped(("DOG/2.png", BAD)), "is one file with 'dog/2.png'"),
    Case("zip accents", zipped(("dog/\u00e9.png", CAT), ("dog/e\u0301.png", BAD)), "is one file"),
    Case("zip file as folder", zipped(("dog/2.png/3.png", BAD)), "a file and a folder at once"),
    Case("zip claims less", zipped(edit=claims_size(-3)), "a.zip: "),
    Case("zip claims more", zipped(edit=claims_size(3)), "a.zip: 'dog/2.png': fewer bytes"),
    Case("zip lies about a name", zipped(("dog/3.png", CAT),
         edit=lambda data: data.replace(b"dog/3.png", b"dog/4.png", 1)), "cannot be unpacked"),
    Case("zip with a wrong CRC", zipped(method=zipfile.ZIP_STORED, edit=corrupted), "Bad CRC-32"),
    Case("zip cut short", zipped(edit=lambda data: data[:-40]), "cannot be unpacked"),
    Case("zip bomb", zipped(("dog/3.png", bytes(12_000_000))), "like a bomb"),
    Case("zip of a large file", zipped(("dog/3.png", bytes(20_000_001))), "limits.file_bytes"),
    Case("zip of a large other file", zipped(("film.mp4", bytes(20_000_001))),
         reasons=("no images by their names",)),
    Case("zip of too many", zipped(*((f"{i}", BAD) for i in range(9_999))), "more than 10,000"),
    Case("zip by another method", zipped(method=zipfile.ZIP_LZMA), "packed by method 14"),
    Case("zip name with NUL", zipped(("dog/3_.png", BAD),
         edit=renamed("dog/3_.png", "dog/3\0.png")), "goes on behind a NUL"),
    Case("zip name with newline", zipped(("dog/3\n.png", BAD)), reasons=("control characters",)),
    Case("zip name reversed", zipped(("dog/\u202egnp.exe.png", BAD)),
         reasons=("control characters",)),
    Case("zip name with a mark", zipped(("dog/\u200f3.png", BAD)),
         kept=(*GOOD, "dog/\u200f3.png")),
    Case("zip long name", zipped((f"dog/{'x' * 252}.png", BAD)), reasons=("longer than 255",)),
    Case("zip long accents", zipped((f"dog/{'é' * 130}.png", BAD)), reasons=("longer than 255",)),
    Case("zip deep", zipped(("d/" * 40 + "3.png", BAD)), reasons=("folders deep",)),
    Case("zip colon", zipped(("dog/3.png:ads.png", BAD)), reasons=("names with ':'",)),
    Case("zip that is none", plain("a.zip", CAT), "no zip or tar, whatever its name"),
    Case("zip without members", plain("a.zip", b"PK\x05\x06" + bytes(18)), "no images in class"),
)  # fmt: skip


TARS = (
    Case("tar v7", tarred()),
    Case("tar ustar", by_tarfile(tarfile.USTAR_FORMAT)),
    Case("tar GNU", by_tarfile(tarfile.GNU_FORMAT)),
    Case("tar pax", by_tarfile(tarfile.PAX_FORMAT)),
    Case("tar.gz", tarred(name="a.tar.gz", pack=gzip.compress)),
    Case("tar.bz2", tarred(name="a.tar.bz2", pack=bz2.compress)),
    Case("tar.xz", tarred(name="a.tar.xz", pack=lzma.compress)),
    Case("tar.gz without suffix", tarred(name="download", pack=gzip.compress)),
    Case("tar of two xz streams", tarred(name="a.txz",
         pack=lambda data: lzma.compress(data[:700]) + lzma.compress(data[700:]))),
    Case("tar without an end", tarred(end=b"")),
    Case("tar slip", tarred(member("../evil.png")), "outside the archive's own folder"),
    Case("tar slip by pax", tarred(pax(path="../evil.png") + member("x.png")), "outside the arch"),
    Case("tar absolute", tar_outside, "outside the archive's own folder"),
    Case("tar link outside", tarred(header(b"cat/l", kind=b"2", target=b"../../x")), "a link that"),
    Case("tar write through a link", tarred(header(b"l", kind=b"2", target=b".."),
         member("l/evil.png")), "a link that leaves the archive"),
    Case("tar link inside", tarred(header(b"cat/3.png", kind=b"2", target=b"../dog/2.png")),
         reasons=("links",)),
    Case("tar hard link", tarred(header(b"cat/3.png", kind=b"1", target=b"cat/1.png")),
         reasons=("links",)),
    Case("tar hard link outside", tarred(header(b"3.png", kind=b"1", target=b"/etc/x")), "a link"),
    Case("tar device", tarred(header(b"cat/3.png", kind=b"3")), reasons=("special files",)),
    Case("tar FIFO", tarred(header(b"cat/3.png", kind=b"6")), reasons=("special files",)),
    Case("tar sparse", tarred(header(b"cat/3.png", kind=b"S")), reasons=("special files",)),
    Case("tar sparse by pax", tarred(pax(GNU__sparse__major="1") + member("cat/3.png")),
         reasons=("special files",)),
    Case("tar inside", tarred(member("cat/more.tar.gz")), reasons=("archives inside",)),
    Case("tar duplicate", tarred(member("cat/1.png")), "'cat/1.png' is there twice"),
    Case("tar case twins", tarred(member("Cat/1.PNG")), "is one file with 'cat/1.png'"),
    Case("tar negative size", tarred(header(b"cat/3.png", b"\xff" * 12)), "size is -1"),
    Case("tar negative pax size", tarred(pax(size="-512") + member("cat/3.png")), "size is -512"),
    Case("tar size of letters", tarred(header(b"cat/3.png", b"abc")), "a header's size is b'abc'"),
    Case("tar huge size", tarred(header(b"cat/3.png", 1 << 32), end=b""), "ingest.limits"),
    Case("tar claims more", tarred(header(b"film.mp4", 5000), end=b""), "ends within 'film.mp4'"),
    Case("tar huge header", tarred(header(b"pax", 1 << 30, b"x")), "more than any name needs"),
    Case("tar damaged pax", tarred(header(b"pax", 9, b"x") + padded(b"99 path=x")), "is damaged"),
    Case("tar global path", tarred(pax(kind=b"g", path="x"), member("y.png")), "a global header"),
    Case("tar wrong checksum", tarred(bytes([1] * 512)), "checksum is wrong"),
    Case("tar cut short", tarred(name="a.tar.gz", pack=lambda d: gzip.compress(d)[:-300]),
         "a.tar.gz: cannot be unpacked"),
    Case("tar bomb", tarred(member("dog/3.png", bytes(12_000_000)), name="a.tgz",
         pack=gzip.compress), "like a bomb"),
    Case("tar bomb of other files", tarred(member("film.mp4", bytes(12_000_000)), name="a.tgz",
         pack=gzip.compress), "like a bomb"),
    Case("tar name not UTF-8", tarred(member(b"cat/\xff.png")), reasons=("not in UTF-8",)),
    Case("tar name with newline", tarred(member("cat/\n.png")), reasons=("control characters",)),
    Case("tar name with NUL", tarred(pax(path=b"cat/3.png\0.exe") + member("x")), "behind a NUL"),
    Case("tar long name", tarred(pax(path=f"cat/{'x' * 300}.png") + member("x")),
         reasons=("longer than 255",)),
    Case("tar GNU long name", tarred(member("L", b"cat/" + b"y" * 120 + b".png\0", kind=b"L"),
         member("x")), kept=(*GOOD, f"cat/{'y' * 120}.png")),
    Case("tar that is none", plain("a.tar", CAT), "no zip or tar, whatever its name"),
    Case("gz that is no tar", plain("a.tar.gz", gzip.compress(CAT)), "no zip or tar, whatever"),
    Case("tar.zst", plain("a.tar.zst", b"\x28\xb5\x2f\xfd" + bytes(9)),
         "cannot be unpacked" if sys.version_info >= (3, 14) else "unpack it by 'unzstd'"),
    Case("xz that asks for memory", plain("a.tar.xz", lzma.compress(b"x" * 9_999, filters=[
         {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])), "Memory usage limit"),
)  # fmt: skip

CASES = (*ZIPS, *TARS)
