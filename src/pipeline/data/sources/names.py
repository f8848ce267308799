"""Names of files and addresses: which are safe, which are text, and what is shown of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pipeline.errors import DataRefused

LONGEST_NAME = 255
"""Bytes of a file's name, on the file systems in use."""

_DIRECTION_CONTROLS = frozenset({"LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def safe_name(name: str, place: str) -> str:
    """``name`` in its shortest form.

    Raises:
        DataRefused: it is no path inside a folder, or has characters that no table can carry.
    """
    path = PurePosixPath(name)
    leaves = path.is_absolute() or ".." in path.parts or ":" in name or "\\" in name
    if leaves or not path.parts:
        raise DataRefused(
            f"{place}: {name!r} is no path inside the source's folder, such as images/a.png;"
            " correct or rename it (no '..', no ':', '/' between folders)"
        )
    if not is_text(name):
        raise DataRefused(
            f"{place}: {name!r} has control characters, or is not UTF-8; rename the file"
        )
    if any(len(part.encode()) > LONGEST_NAME for part in path.parts):
        raise DataRefused(f"{place}: '{name[:60]}…' is too long for a file's name; shorten it")
    return str(path)


def is_text(name: str) -> bool:
    """Whether ``name`` can stand in one line of UTF-8 text and reads as what it is.

    Controls of the writing direction (U+202E and its kin) show ``gnp.exe`` as ``exe.png``; the mere
    marks U+200E and U+200F, common in Arabic and Hebrew names, are text.
    """
    if name.isascii() and name.isprintable():
        return True
    return not any(
        unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"}
        or unicodedata.bidirectional(letter) in _DIRECTION_CONTROLS
        for letter in name
    )


def twin_key(name: str) -> str:
    """Equal for names that are one file on some systems, which ignore case or Unicode's form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def check_twins(names: Iterable[str], place: str) -> None:
    """See that every name stays a file of its own wherever the data is checked out.

    Raises:
        DataRefused: a name is there twice, or two differ by case or Unicode's form alone.
    """
    seen: dict[str, str] = {}
    for name in names:
        key = twin_key(name)
        if key in seen:
            raise DataRefused(
                f"{place}: {seen[key]!r} and {name!r} are one file on systems that ignore case and"
                " Unicode's forms, so one would replace the other; rename or remove one of them"
                if name != seen[key]
                else f"{place}: {name!r} is there twice, so one would replace the other;"
                " rename or remove one of them"
            )
        seen[key] = name


def inside(path: Path, folder: Path, resolved: dict[Path, bool]) -> Path:
    """``path``, which may be a link but must not lead out of ``folder`` (itself resolved).

    ``resolved`` remembers the folders already looked at.

    Raises:
        DataRefused: it leads out.
    """
    parent = path.parent
    if parent not in resolved:
        resolved[parent] = parent.resolve().is_relative_to(folder)
    if resolved[parent] and not path.is_symlink():
        return path
    target = path.resolve()
    if not target.is_relative_to(folder):
        raise DataRefused(
            f"{path}: a link that leaves {folder} (to {target}); put the file itself there"
        )
    return path


def redacted(address: str) -> str:
    """``address`` without a password or the query that signs it, for messages."""
    address = re.sub(r"(?<=://)[^/?#\s]*@", "***@", address)
    return re.sub(r"(://[^\s?#]*)[?#]\S*", r"\1?…", address)
