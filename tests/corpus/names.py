"""Class folders whose names are hard to carry."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.corpus.case import BAD, CAT, DOG, GOOD, Case, write_files


def folders(more: Mapping[str, bytes] | None = None) -> Callable[[Path], Path]:
    return lambda folder: write_files(folder, GOOD | dict(more or {}))


def of_bytes(name: bytes) -> Callable[[Path], Path]:
    """A name that is no UTF-8."""

    def make(folder: Path) -> Path:
        write_files(folder, GOOD)
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:  # noqa: PTH123
            file.write(BAD)
        return folder

    return make


def link(name: str, target: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write_files(folder, GOOD)
        write_files(folder.parent / "else", {"x.png": BAD})
        (folder / name).symlink_to(target)
        return folder

    return make


def fifo(folder: Path) -> Path:
    write_files(folder, GOOD)
    os.mkfifo(folder / "cat" / "3.png")
    return folder


CASES = (
    Case("folders", folders()),
    Case("folder in Hebrew with a mark", folders({"\u200f\u05d7\u05ea\u05d5\u05dc/1.png": BAD}),
         kept=(*GOOD, "\u200f\u05d7\u05ea\u05d5\u05dc/1.png")),
    Case("folder of emoji", folders({"🐈/1.png": BAD}), kept=(*GOOD, "🐈/1.png")),
    Case("name with spaces", folders({"cat/ a b .png": BAD}), kept=(*GOOD, "cat/ a b .png")),
    Case("name with comma and quote", folders({'cat/a,"b".png': BAD}),
         kept=(*GOOD, 'cat/a,"b".png')),
    Case("name like a formula", folders({"cat/=cmd.png": BAD}), kept=(*GOOD, "cat/=cmd.png")),
    Case("name like an option", folders({"cat/-rf.png": BAD}), kept=(*GOOD, "cat/-rf.png")),
    Case("name with newline", folders({"cat/a\nb.png": BAD}), "control characters"),
    Case("name with tab", folders({"cat/a\tb.png": BAD}), "control characters"),
    Case("name with escape", folders({"cat/\x1b[2J.png": BAD}), "control characters"),
    Case("name with a line separator", folders({"cat/a\u2028b.png": BAD}), "control characters"),
    Case("name shown backwards", folders({"cat/\u202egnp.exe.png": BAD}), "control characters"),
    Case("name isolated", folders({"cat/\u2066a.png": BAD}), "control characters"),
    Case("name not UTF-8", of_bytes(b"cat/\xff.png"), "not UTF-8"),
    Case("name with colon", folders({"cat/C:x.png": BAD}), "is no path inside"),
    Case("name with backslash", folders({"cat/a\\x.png": BAD}), "is no path inside"),
    Case("name of 255 bytes", folders({f"cat/{'x' * 251}.png": BAD}),
         kept=(*GOOD, f"cat/{'x' * 251}.png")),
    Case("case twins", folders({"cat/1.PNG": BAD}), "are one file on systems"),
    Case("folder case twins", folders({"Cat/1.png": BAD}), "are one file on systems"),
    Case("accent twins", folders({"cat/\u00e9.png": CAT, "cat/e\u0301.png": DOG}), "are one file"),
    Case("link to another image", link("cat/3.png", "1.png"), kept=(*GOOD, "cat/3.png")),
    Case("link outside", link("cat/3.png", "../../else/x.png"), "a link that leaves"),
    Case("folder link outside", link("cow", "../else"), reasons=("links to folders",)),
    Case("link to nothing", link("cat/3.png", "gone.png"), reasons=("links to nothing",)),
    Case("link to itself", link("cat/3.png", "3.png"), reasons=("links to nothing",)),
    Case("FIFO", fifo, reasons=("special files",)),
)  # fmt: skip
