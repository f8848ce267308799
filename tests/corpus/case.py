"""What a case of the corpus of bad sources is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.images import encoded, picture

CAT, DOG, BAD = (encoded(picture(seed, size=(8, 8))) for seed in (1, 2, 3))

GOOD = {"cat/1.png": CAT, "dog/2.png": DOG}


@dataclass(frozen=True)
class Case:
    """A source, and what becomes of it."""

    name: str
    make: Callable[[Path], Path]
    """Makes it in an empty folder, and returns its address."""
    refused: str | None = None
    """Part of the message that it is refused with; ``None``: it is read."""
    kept: tuple[str, ...] = tuple(GOOD)
    """What is listed, if it is read."""
    reasons: tuple[str, ...] = ()
    """Why something was left out, in parts of the texts."""
    columns: Mapping[str, list[str]] | None = None
    """Columns that are listed, if it is read."""

    def __str__(self) -> str:
        return self.name


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
