"""What a case of the corpus of bad and odd images is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

NO_IMAGE = "no PNG, JPEG, BMP, TIFF, WEBP, GIF or PPM image"
CUT_SHORT = "header is broken or cut short"

Make = Callable[[Path], None]


@dataclass(frozen=True)
class ImageCase:
    """A file of the corpus: ``name`` below the folder, its bytes or how to make it, what comes."""

    name: str
    content: bytes | Make
    status: str = "ok"
    columns: Mapping[str, object] = field(default_factory=dict)
    error: str = ""
    """What the manifest's ``error`` has to contain."""

    def __str__(self) -> str:
        return self.name

    def make(self, folder: Path) -> None:
        path = folder / self.name
        if callable(self.content):
            self.content(path)
        else:
            path.write_bytes(self.content)


def patched(data: bytes, place: int, new: bytes) -> bytes:
    """``data`` with ``new`` in the place of what it has at ``place``."""
    return data[:place] + new + data[place + len(new) :]
