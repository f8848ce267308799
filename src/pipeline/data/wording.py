"""Counts, labels and lists as messages show them."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 5


def several(count: int, thing: str) -> str:
    """``"1 image"``, ``"1,204 images"``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def quoted(label: str) -> str:
    return f"'{label}'" if label.strip() else "no label"


def indented(lines: Sequence[str]) -> str:
    """The first few ``lines``, each on its own, and how many more there are."""
    more = f"\n    and {len(lines) - SHOWN:,} more" if len(lines) > SHOWN else ""
    return "\n".join(f"    {line}" for line in lines[:SHOWN]) + more


def file_size(count: int) -> str:
    """``"12.3 MB"``."""
    if count < 1000:
        return f"{count} bytes"
    power = min((len(str(count)) - 1) // 3, 4)
    return f"{count / 1000**power:,.1f} {' kMGT'[power]}B"
